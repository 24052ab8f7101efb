/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The control pages: all that the coordinator and the stub in a stopped task say to each other.
 *
 * The coordinator writes a batch of system calls, lets the task run the stub, and reads the results when it has
 * trapped back. The stub runs the calls in order and stops behind the first that fails unexpectedly. It decides
 * nothing: what to call, in which order, and what a failure means is known to the coordinator alone.
 *
 * Both sides are the same build, so the layout has no version; it must not have padding, which would carry bytes of
 * the coordinator's memory into the task.
 */
#pragma once

#include <stdint.h>

enum {
	STUB_PAGES = 4,       /* of 4096 bytes */
	STUB_CALLS_MAX = 127, /* the 64 signal handlers of a task fit in one batch */
	STUB_DATA_BYTES = 8192,
};

enum stub_flags {
	STUB_MAY_FAIL = 1 << 0, /* a failure of this call is an answer: go on */
};

/* One cache line. */
struct stub_call {
	uint16_t number; /* SYS_* */
	uint8_t flags;   /* enum stub_flags */
	uint8_t results; /* bit n set: arg[n] is the index of an earlier call, whose result is meant */
	uint8_t loads; /* bit n set: arg[n] is the address of an int that an earlier call wrote, and the int is meant */
	uint8_t unused[3]; /* 0 */
	uint64_t arg[6];
	int64_t result; /* written by the stub; -4095 to -1 is a negative errno */
};

struct stub_control {
	uint32_t count; /* calls to run */
	uint32_t done;  /* written by the stub: calls that ran as expected. Where done < count, calls[done] failed */
	uint64_t unused[7]; /* 0 */
	struct stub_call calls[STUB_CALLS_MAX];
	uint8_t data[STUB_DATA_BYTES]; /* what the arguments point to */
};

_Static_assert(sizeof(struct stub_call) == 64, "a call is one cache line");
_Static_assert(sizeof(struct stub_control) == STUB_PAGES * 4096UL, "whole pages, no padding");

/* Runs the batch. Uses nothing but its argument and the stack: no libc, no globals, no relocations. */
void stub_run(struct stub_control *control);
