/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Single system calls in a stopped thread, for the way into the stub and out of it.
 *
 * They run through a trampoline in the zeros behind the vDSO's code (a private copy of that page): the call, and then
 * the jump back to where the thread was. So a thread whose tracer dies in the middle goes on as if nothing had been.
 */
#pragma once

#include "task/process.h"

/* Finds the room, if process doesn't know it yet. What is there must be zeros, or a trampoline that a killed godwit left. */
MUST_USE struct error *remote_slot_find(struct process *process);

/* Has a godwit left its trampoline there? A thread may be on its way through it, and the call yet to be made. */
bool remote_slot_is_left(pid_t pid, int mem_fd);

struct remote_request {
	const char *name; /* for the error */
	long number;
	uint64_t arguments[6];
};

/* Makes a call in a stopped thread and returns what the kernel returned. The thread's registers may have changed
 * behind it: a signal that was on its way has been delivered. */
MUST_USE struct error *remote_call(struct process *process, struct thread *thread, const struct remote_request *request,
                                   int64_t *ret_result);

/* A signal came to a stopped thread that isn't where the program was: it is delivered there, and the thread stopped once
 * more. What is known of the thread is read again. */
MUST_USE struct error *remote_deliver(struct process *process, struct thread *thread, int signal);

/* Puts the zeros back. No thread may be in the trampoline. */
void remote_slot_clear(struct process *process);

/* The same in any thread that stands still and isn't in a call that it has begun; ptrace's options may have been taken
 * away already. EBUSY: there is no such thread. */
MUST_USE struct error *remote_call_idle(struct process *process, const struct remote_request *request,
                                        int64_t *ret_result);

/* Puts bytes that a call is to read beside the trampoline, where zeros are. Clear it before the next ones. */
MUST_USE struct error *remote_room_put(struct process *process, const void *bytes, size_t size_bytes,
                                       uint64_t *ret_address);
void remote_room_clear(struct process *process, size_t size_bytes);
