/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The stub's pages in a process, as the coordinator sees them: made by two remote calls, mapped here too through
 * /proc/PID/map_files, so that no descriptor is ever made in the program. See stub/stub.h for what is in them.
 */
#pragma once

#include "task/process.h"

struct stub_pages;

/* Has the thread run all that it was given? */
bool stub_pages_is_done(const struct stub_pages *stub, const struct thread *thread);

/* A stopped thread is about to be taken out from outside, by being given other registers. */
void stub_pages_set_left(struct stub_pages *stub, const struct thread *thread);

/*
 * Where the pages are mapped, unless somebody else has a mapping there: at one of a few addresses that say whose they are
 * even if we died before anything was written to them. The data are always at the same distance from there; the code ends
 * where they begin, so that one call unmaps both.
 */
enum {
	STUB_PLACES = 20,
	STUB_DATA_OFFSET = 1 << 28, /* room for the trampolines of a million threads */
};
uint64_t stub_pages_address(unsigned place);
bool stub_pages_is_data_address(uint64_t address);

/* Unmaps the pages in the task by remote calls of a stopped thread. No other thread may be in them. Frees stub. */
MUST_USE struct error *stub_pages_unmap(struct process *process, struct thread *thread);

/* Stops all threads that aren't stopped: they are parked. In process.c. */
MUST_USE struct error *process_stop_again(struct process *process);
bool process_is_in_group_stop(const struct process *process);

/* What held.c needs of the pages, for one thread. All borrowed. */
struct held_place {
	uint8_t *code; /* here: room for a guarded trampoline */
	uint64_t code_address;
	struct stub_place *place;
	struct stub_control *control;
	struct arch_guard guard;
};
struct held_place stub_pages_held_place(const struct stub_pages *stub, const struct thread *thread);

/* Descriptors of a process, before any of its threads is known. */
MUST_USE struct error *process_open(pid_t pid, struct process *process);

/* A place in process->threads for a thread that is ours already. */
struct thread *process_add_thread(struct process *process, pid_t tid);

/* The same in the place of one that has ended, if there is any. */
struct thread *process_take_place(struct process *process, pid_t tid);

/* Only our side. Threads that are in the stub leave it: for them we have died. */
void stub_pages_free(struct stub_pages *stub);
