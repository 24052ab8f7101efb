/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A tree of processes that stands still: all stopped, their FPU state read, parked. */
#pragma once

#include "checkpoint/save/tree_read.h"
#include "task/calls.h"
#include "task/process.h"
#include "util/log.h"

/* What the threads of a tree wait for: goes from one freeze of it to the next. */
struct tree_calls;
struct tree_calls *tree_calls_new(void); /* never NULL */
void tree_calls_free(struct tree_calls *calls);
DEFINE_OWNED(struct tree_calls *, tree_calls_free)
#define auto_tree_calls AUTO(tree_calls_free)

/* The processes stand still as long as this is held; frozen_free() lets them go on. */
struct frozen {
	struct process **processes; /* owned; as in the tree, NULL: a zombie, or let go */
	size_t count;
	uint64_t began_ns; /* CLOCK_MONOTONIC: when the first thread was stopped */
};

/* What only a program that runs on can take out of the way, so that it is let go and stopped again. */
enum obstacle {
	OBSTACLE_NONE,
	OBSTACLE_PROCESSES,   /* that have come, ended or begun to share since the tree was read */
	OBSTACLE_CHILDREN,    /* where only one process can be carried */
	OBSTACLE_CONNECTIONS, /* that wait to be accepted: they belong to no descriptor yet */
	OBSTACLE_UNREAD,      /* events and data that nobody but the program can read */
};

/* Who is told, while all stand still, that the tree is another one than it was: reads it anew, and refuses it or not. EAGAIN:
 * what is in the way passes when it runs on. */
struct relook {
	struct error *(*look)(void *context, const struct live_tree **ret_live); /* ret_live is borrowed as live was */
	void *context;                                                           /* borrowed */
};

/*
 * Freezes a tree that was read just before. Where it isn't what it was any more, all that it is by now is stopped, and
 * relook is asked; without relook, and of a process that had no children, that is an obstacle (OBSTACLE_PROCESSES), and
 * *ret_frozen is to be freed, too. calls is borrowed as long as this is held; NULL: it doesn't matter how long threads
 * wait for what they wait for. room_bytes: how much memory, besides what any program needs, will be allocated while it is
 * frozen; a guess.
 */
struct freeze_request {
	const struct live_tree *live;
	struct tree_calls *calls;
	size_t room_bytes;
	bool has_children;           /* although live knows of none */
	const struct relook *relook; /* NULL: nobody */
};
MUST_USE struct error *freeze(const struct freeze_request *request, struct frozen **ret_frozen,
                              enum obstacle *ret_obstacle);

/* If we die, all stay where they are: process_set_stay(). */
MUST_USE struct error *frozen_set_stay(struct frozen *frozen, bool stay);

/* Each ends the freeze in its way and leaves nothing to hold. Children come first: their parents don't see them stopped. */
MUST_USE struct error *frozen_thaw(struct frozen *frozen);
MUST_USE struct error *frozen_leave_stopped(struct frozen *frozen);

/* Ends them by SIGKILL, or the root by exit_group(2) with that status; children first, so that what is left hangs together. */
MUST_USE struct error *frozen_end(struct frozen *frozen, int status);

/* As if we had been killed: nobody is let go by us. */
void frozen_abandon(struct frozen *frozen);

/* What saving has ended with: an error that passes (EAGAIN) is an obstacle, unless this was the last try. Consumes error. */
MUST_USE struct error *obstacle_from(struct error *error, bool is_last_try, enum obstacle *ret_obstacle);

void obstacle_log(enum obstacle obstacle, struct log *log);

/* It was tried often enough. */
MUST_USE struct error *obstacle_error(enum obstacle obstacle, pid_t pid);

void frozen_free(struct frozen *frozen);
DEFINE_OWNED(struct frozen *, frozen_free)
#define auto_frozen AUTO(frozen_free)
