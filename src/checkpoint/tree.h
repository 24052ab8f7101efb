/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The processes that are carried together, and what they share: the one description of both, for saving and restoring.
 *
 * Saving makes it from the running processes (save/tree_read.h), restoring from pstree.img and ids-PID.img (model.h).
 * Two tasks have the same id of a kind exactly if they share that object: clone(2), CLONE_VM, CLONE_FILES, CLONE_FS,
 * CLONE_SIGHAND. The first of them in the tree owns it: what belongs to the object is saved and made with its owner, the
 * others refer to it. Open files have ids of their own (files.img), by the same rule: the first table that has a
 * description makes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"
#include "util/own.h"

enum shared_kind { SHARED_VM, SHARED_FILES, SHARED_FS, SHARED_SIGHAND, SHARED_KIND_COUNT };

enum { TREE_NO_PARENT = -1 };

/* A process, by the numbers that it and the others of the tree know: those of its PID namespace. */
struct tree_task {
	pid_t pid;
	int parent; /* index in the tree; TREE_NO_PARENT: it is the root */
	pid_t group, session;
	bool is_zombie; /* it has ended, and waits for its parent to see that; it has no ids */
	int exit_code;  /* of a zombie: as wait(2) gives it */
	uint32_t ids[SHARED_KIND_COUNT];
};

/* Parents come before their children; the first one is the root. */
struct tree {
	struct tree_task *tasks; /* owned */
	size_t count;
};

/* The task that owns what this one has: the first with the same id. A zombie has nothing to share. */
size_t tree_owner(const struct tree *tree, enum shared_kind kind, size_t task);
bool tree_owns(const struct tree *tree, enum shared_kind kind, size_t task);

/*
 * Who can make a task with all that it shares with tasks before it: its parent, or one with the same parent (clone(2),
 * CLONE_PARENT). -1: nobody. *ret_flags: what it has together with its maker, as clone(2) names it. Not for the root.
 */
int tree_maker(const struct tree *tree, size_t task, uint64_t *ret_flags);

/*
 * The session that each task has to be born in (0: whichever), so that it comes to the one that it is in; ret_sessions has
 * one for each. The error: a task that is in a session in which its parent never was, as far as the others tell.
 */
void tree_births(const struct tree *tree, pid_t *ret_sessions);
MUST_USE struct error *tree_check_births(const struct tree *tree);

/* The index of the task with that PID; -1: there is none. */
int tree_find(const struct tree *tree, pid_t pid);

/* Adds a task at the end, zeroed but for its parent. Borrowed until the next one. */
struct tree_task *tree_add(struct tree *tree, int parent);

void tree_free(struct tree *tree); /* what it points to */
#define auto_tree __attribute__((cleanup(tree_free)))
