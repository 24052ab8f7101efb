/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A process that stands still: stopped, its FPU state read, parked. */
#pragma once

#include "task/calls.h"
#include "task/process.h"
#include "util/log.h"

/* The process stands still as long as this is held; frozen_free() lets it go on. */
struct frozen {
	struct process *process; /* owned */
	uint64_t began_ns;       /* CLOCK_MONOTONIC: when the first thread was stopped */
};

/* calls (borrowed as long as this is held) goes from one freeze of the same process to the next; NULL: it doesn't matter
 * how long the process waits for what it waits for.
 * room_bytes: how much memory, besides what any program needs, will be allocated while it is frozen; a guess. */
MUST_USE struct error *freeze(pid_t pid, struct calls *calls, size_t room_bytes, struct frozen **ret_frozen);

/* Each ends the freeze in its way and leaves nothing to hold. */
MUST_USE struct error *frozen_thaw(struct frozen *frozen);
MUST_USE struct error *frozen_leave_stopped(struct frozen *frozen);

/* What only a program that runs on can take out of the way, so that it is let go and stopped again. */
enum obstacle {
	OBSTACLE_NONE,
	OBSTACLE_CHILDREN,
	OBSTACLE_CONNECTIONS, /* that wait to be accepted: they belong to no descriptor yet */
	OBSTACLE_UNREAD,      /* events and data that nobody but the program can read */
};

/* What saving has ended with: an error that passes (EAGAIN) is an obstacle, unless this was the last try. Consumes error. */
MUST_USE struct error *obstacle_from(struct error *error, bool is_last_try, enum obstacle *ret_obstacle);

void obstacle_log(enum obstacle obstacle, struct log *log);

/* It was tried often enough. */
MUST_USE struct error *obstacle_error(enum obstacle obstacle, pid_t pid);

void frozen_free(struct frozen *frozen);
DEFINE_OWNED(struct frozen *, frozen_free)
#define auto_frozen AUTO(frozen_free)
