/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The tree of a process that runs: its descendants, what they share, and who they are for each other. */
#pragma once

#include "checkpoint/save/program_id.h"
#include "checkpoint/tree.h"
#include "objects/objects.h"
#include "util/problems.h"

/* A tree, and how this process sees its tasks. */
struct live_tree {
	struct tree tree; /* by their own numbers */
	/* One for each of them; zombies have no pidfd (-1) and no files_id (0). The list is what open_files.tasks borrows. */
	struct open_task *list;      /* owned, with its descriptors */
	struct program_id *programs; /* owned; one for each, too */
};

/* Reads all of it. EAGAIN: processes come and go too fast. ESRCH: pid has ended. */
MUST_USE struct error *live_tree_read(pid_t pid, struct live_tree *ret_live);

/* The root alone, as if it had no children. */
MUST_USE struct error *live_tree_read_root(pid_t pid, struct live_tree *ret_live);
void live_tree_free(struct live_tree *live); /* what it points to */
#define auto_live_tree __attribute__((cleanup(live_tree_free)))

/* While it runs: are they still these processes, and each the program that it was? */
bool live_tree_is_current(const struct live_tree *live);

/* Has it ended, and waits for its parent to see that? */
bool live_tree_is_zombie(pid_t pid);

/* The index of the task with that PID as this process sees it; -1: there is none. */
int live_tree_find(const struct live_tree *live, pid_t pid);

/* The tree stands still: reads groups and sessions again, which may be others by now. */
MUST_USE struct error *live_tree_refresh(struct live_tree *live);

/*
 * The root leaves the session that stays where it is: with it go all tasks of that session, and of the root's group, into
 * a session and a group of its own.
 */
void live_tree_detach(struct live_tree *live);

/* Adds what of its shape can't be carried. */
void live_tree_check(const struct live_tree *live, struct problems *problems);
