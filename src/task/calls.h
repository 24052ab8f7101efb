/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What the threads of a process wait for in the kernel, and for how long still, so that a stop doesn't make it longer.
 *
 * The kernel keeps the deadline of some calls (nanosleep(2), poll(2), futex(2)) in a restart block, which no one can read
 * and which stays behind when the program goes elsewhere; for others (epoll_wait(2)) it keeps nothing: the stop ends the
 * call. So the threads are looked at before they are stopped: the call and its time-out in /proc/TID/syscall, when the
 * thread went to sleep in /proc/TID/sched (se.exec_start; nr_voluntary_switches tells whether it has slept only once
 * since). Where the kernel doesn't tell, a call begins anew with its full time; it never ends too early.
 */
#pragma once

#include "task/process.h"

/* Notes that outlive a struct process: who has been stopped before is in a call whose number is lost. */
struct calls;

/* Never NULL. */
struct calls *calls_new(void);
void calls_free(struct calls *calls);
DEFINE_OWNED(struct calls *, calls_free)
#define auto_calls AUTO(calls_free)

/* The threads run: takes notes of all that sleep. A thread that can't be looked at has no note, which is no error. */
void calls_look(struct calls *calls, const struct process *process);

/*
 * A thread has been stopped and its registers have been read: fills thread->call. A call whose time-out is in a register
 * that nobody reads afterwards is given the time that is left.
 */
MUST_USE struct error *calls_settle(struct calls *calls, const struct process *process, struct thread *thread);
