/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* ptrace stops of one thread: making them, telling them apart, and what is read in them. ptrace(2). */
#pragma once

#include "task/process.h"

enum stop {
	STOP_INTERRUPTED, /* by PTRACE_INTERRUPT, or a group stop: thread.stop_signal tells */
	STOP_SYSCALL,     /* PTRACE_SYSCALL: entry or exit of a call */
	STOP_SIGNAL,      /* a signal is about to be delivered: pass it on with PTRACE_CONT */
	STOP_EXEC,        /* execve(2) has taken place: the other threads are gone */
	STOP_GONE,        /* the thread has ended */
};

/* PTRACE_SEIZE of a thread of another program. *ret_is_gone: it has ended meanwhile, which is no error. */
MUST_USE struct error *thread_seize(pid_t tid, int options, bool *ret_is_gone);

/* Waits for the thread's next stop. ret_signal is set for STOP_SIGNAL. */
MUST_USE struct error *thread_wait(struct thread *thread, enum stop *ret_stop, int *ret_signal);

/* Waits for the stop that PTRACE_INTERRUPT makes. Signals on the way are delivered first. STOP_GONE and STOP_EXEC are
 * the other answers. */
MUST_USE struct error *thread_wait_interrupted(struct thread *thread, enum stop *ret_stop);

/* Reads registers, signal mask and rseq area of a stopped thread and puts the registers right: see struct thread. */
MUST_USE struct error *thread_read(const struct process *process, struct thread *thread);

/* Is that where it goes on? */
bool thread_is_in(const struct thread *thread, const struct procfs_range *range);

/* Lets a stopped thread run for a moment, and reads it again: if it isn't gone. */
MUST_USE struct error *thread_run_on(const struct process *process, struct thread *thread);

/* Reads the signals that wait for a stopped thread, or for all threads of its process: PTRACE_PEEKSIGINFO. pending is
 * replaced. */
MUST_USE struct error *thread_read_pending(const struct thread *thread, bool of_process,
                                           struct pending_signals *pending);

/* Reads FPU state and pending signals of a stopped thread, for the first time or once more. */
MUST_USE struct error *thread_read_rest(struct thread *thread);

/* An error that names what a stopped thread has that can't be carried and that only a stop tells. */
MUST_USE struct error *thread_check(const struct thread *thread);

/* ptrace(2) with the error that belongs to it. */
MUST_USE struct error *thread_ptrace(const struct thread *thread, int request, const char *name, uint64_t address,
                                     uint64_t data);
#define THREAD_PTRACE(thread, request, address, data) \
	thread_ptrace((thread), (request), #request, (uint64_t)(address), (uint64_t)(data))
