/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The stub's pages: all that the coordinator and the stub in a task say to each other.
 *
 *     code (R-X in the task)    the stub, then one trampoline for each thread
 *     session (RW)              one page for the whole process
 *     places (RW)               one for each thread: registers and stack
 *     control pages (RW)        of each thread
 *
 * The coordinator writes a batch of system calls into a thread's control pages and counts its "go" up; the thread runs
 * them in order, stops behind the first that fails unexpectedly, or if the coordinator has died, and says so. It decides
 * nothing: what to call, in which order, and what a failure means is known to the coordinator alone.
 *
 * A thread leaves the stub by itself, to where it was before, on one path for two reasons: "leave" was set, or the
 * coordinator has died (the kernel marks "owner", which is on its robust futex list: set_robust_list(2)). While "stay"
 * is set, the coordinator's death is no reason.
 *
 * Both sides are the same build, so the layout has no version; it must not have padding, which would carry bytes of
 * the coordinator's memory into the task.
 */
#pragma once

#include <stdint.h>

#include "arch/arch.h"

enum {
	STUB_PAGES = 4,       /* of 4096 bytes */
	STUB_CALLS_MAX = 127, /* the 64 signal handlers of a task fit in one batch */
	STUB_DATA_BYTES = 8192,
};

enum stub_flags {
	STUB_MAY_FAIL = 1 << 0, /* a failure of this call is an answer: go on */
	STUB_ALWAYS = 1 << 1,   /* made even if the coordinator has died: it undoes an earlier one */
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

/*
 * Threads that only tell of themselves have less of it, with the data behind fewer calls: a program may have thousands,
 * and a page costs 3 us in its pause. With its place that is a page for each.
 */
enum {
	STUB_SMALL_BYTES = 2944,
	STUB_SMALL_CALLS_MAX = 24,
	STUB_SMALL_DATA_OFFSET = 64 * (1 + STUB_SMALL_CALLS_MAX),
};

/* In a page of its own. All words are futexes, but stay and leave are only read when owner has been looked at. */
struct stub_session {
	uint32_t owner; /* TID of the coordinator's thread and FUTEX_WAITERS */
	uint32_t stay;
	uint32_t leave;
	uint32_t place_count;
	uint64_t magic;      /* STUB_MAGIC: by it a later godwit knows what a killed one left */
	uint32_t is_stopped; /* a group stop of ours keeps threads standing that aren't parked: seccomp.h */
	uint8_t unused[4096 - 28];
};

#define STUB_MAGIC UINT64_C(0x3274697764306721)

/* A thread's own: written by the coordinator before the thread comes in. */
struct stub_place {
	uint32_t go;      /* counted up by the coordinator when control holds a new batch */
	uint32_t done;    /* by the stub: the last "go" it has run */
	uint32_t left;    /* by the trampoline: the thread is out, but for two instructions */
	uint32_t entered; /* by the stub: the thread has come in */
	uint64_t session_address, control_address;
	uint64_t signal_mask; /* to put back */
	uint64_t held_result; /* of a thread that isn't parked: what its last call returned; then done is 1 */
	struct arch_saved saved;
	uint8_t stack[1152 - 48 - sizeof(struct arch_saved)]; /* grows down, from the next place */
};

_Static_assert(sizeof(struct stub_session) == 4096UL, "a page");
_Static_assert(sizeof(struct stub_place) == 1152UL, "cache lines, no padding");
_Static_assert(sizeof(struct stub_place) + STUB_SMALL_BYTES == 4096UL,
               "a page for each thread that has little to tell");

/* Runs the batch. Uses nothing but its argument and the stack: no libc, no globals, no relocations. */
void stub_run(struct stub_control *control);

/* Where a thread comes in: parks it until it has to leave. The same rules hold. */
__attribute__((noreturn)) void stub_main(struct stub_place *place);
