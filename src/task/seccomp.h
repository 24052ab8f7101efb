/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * seccomp(2) of the threads of a held process.
 *
 * While we live, PTRACE_O_SUSPEND_SECCOMP lets a stopped thread make any call. It ends with us, and then a thread that is
 * parked in the stub makes calls of its own to leave it. A thread whose filters allow those is parked like others. One that
 * would be killed for them is held: it stays in its ptrace stop, from which it goes on by itself if we die, and makes the
 * calls of a batch one by one (remote.h).
 *
 * Both look whether we live just before each call: stub.c, held.h. What is left to chance is a thread that loses its
 * processor between the look and the call, until we are dead and gone; and the calls that map and unmap the stub's pages
 * where all threads are held: those begin as a call that the filter allows, and are changed at the entry (remote.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

struct process;
struct thread;

/* The numbers of /proc/PID/status, and of the image. */
enum seccomp_mode_of_thread { SECCOMP_IS_OFF, SECCOMP_IS_STRICT, SECCOMP_IS_FILTER };

/* A filter, as it was installed. */
struct seccomp_filter_code {
	void *code; /* owned: struct sock_filter of seccomp(2), one after the other */
	size_t size_bytes;
	uint32_t flags;   /* SECCOMP_FILTER_FLAG_LOG, the only one that is told */
	int previous;     /* index of the one that was there before it; -1: it was the first */
	unsigned allowed; /* bits of the calls that it and those before it allow: seccomp.c */
};

/* All filters of all threads, each once: threads with the same chain of filters share it. */
struct seccomp_filters {
	struct seccomp_filter_code *list; /* owned */
	size_t count;
};
void seccomp_filters_free(struct seccomp_filters *filters); /* what it points to */

/* Which mode a thread is in, while it runs: from /proc. */
enum seccomp_mode_of_thread seccomp_mode(pid_t pid, pid_t tid);

/* Of a stopped thread: notes if it has got a filter meanwhile, and suspends what it has; options are those of its tracing. */
MUST_USE struct error *seccomp_suspend(struct thread *thread, unsigned options);

/* Reads the filters of a stopped thread. */
MUST_USE struct error *seccomp_read(struct process *process, struct thread *thread);

/* May the thread, by its filters, leave the stub by itself? */
bool seccomp_may_park(const struct process *process, const struct thread *thread);

/* May it, by its filters, map the stub's pages and unmap them? */
bool seccomp_may_map(const struct process *process, const struct thread *thread);

/* A call that the thread may make and that does nothing, to begin with instead of another one. False: there is none. */
bool seccomp_harmless(const struct process *process, const struct thread *thread, long *ret_number);

/* May this process suspend seccomp of others? ptrace(2), PTRACE_O_SUSPEND_SECCOMP. */
bool seccomp_can_suspend(void);
