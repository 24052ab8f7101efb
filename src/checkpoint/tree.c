/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "checkpoint/tree.h"
#include "util/alloc.h"

size_t tree_owner(const struct tree *tree, enum shared_kind kind, size_t task)
{
	size_t owner = 0;

	if (tree->tasks[task].is_zombie)
		return task;
	while (owner < task &&
	       (tree->tasks[owner].is_zombie || tree->tasks[owner].ids[kind] != tree->tasks[task].ids[kind]))
		owner++;
	return owner;
}

bool tree_owns(const struct tree *tree, enum shared_kind kind, size_t task)
{
	return tree_owner(tree, kind, task) == task;
}

static uint64_t shared_flags(const struct tree_task *task, const struct tree_task *other)
{
	static const uint64_t flags[SHARED_KIND_COUNT] = {
		[SHARED_VM] = CLONE_VM,
		[SHARED_FILES] = CLONE_FILES,
		[SHARED_FS] = CLONE_FS,
		[SHARED_SIGHAND] = CLONE_SIGHAND,
	};
	uint64_t shared = 0;

	for (size_t kind = 0; kind < SHARED_KIND_COUNT && !task->is_zombie && !other->is_zombie; kind++)
		if (task->ids[kind] == other->ids[kind])
			shared |= flags[kind];
	return shared;
}

int tree_maker(const struct tree *tree, size_t task, uint64_t *ret_flags)
{
	const struct tree_task *tasks = tree->tasks;
	int parent = tasks[task].parent;

	*ret_flags = 0;
	for (size_t i = 0; i < task; i++)
		*ret_flags |= shared_flags(&tasks[task], &tasks[i]);
	if (shared_flags(&tasks[task], &tasks[parent]) == *ret_flags)
		return parent;
	for (size_t i = 0; i < task; i++)
		if (tasks[i].parent == parent && shared_flags(&tasks[task], &tasks[i]) == *ret_flags)
			return (int)i;
	return -1;
}

/*
 * It is the one that it is in, unless it leads that; and of a leader, that of a child which was made before. Children come
 * behind their parents in a tree.
 */
void tree_births(const struct tree *tree, pid_t *ret_sessions)
{
	for (size_t i = tree->count; i-- > 0;) {
		const struct tree_task *task = &tree->tasks[i];

		if (task->session != task->pid)
			ret_sessions[i] = task->session;
		if (ret_sessions[i] && task->parent >= 0 && ret_sessions[i] != tree->tasks[task->parent].pid)
			ret_sessions[task->parent] = ret_sessions[i];
	}
}

struct error *tree_check_births(const struct tree *tree)
{
	auto_free pid_t *births = xalloc(tree->count * sizeof(*births));

	tree_births(tree, births);
	for (size_t i = 1; i < tree->count; i++) {
		size_t parent = (size_t)tree->tasks[i].parent;
		bool is_inherited = births[i] == tree->tasks[parent].session || births[i] == births[parent];

		if (births[i] && (!is_inherited || (parent == 0 && births[i] != tree->tasks[0].session)))
			return error_hint(
				error_new(ENOTSUP,
			                  "process %d is in session %d, in which its parent %d isn't any more, or "
			                  "never was",
			                  tree->tasks[i].pid, births[i], tree->tasks[parent].pid),
				"what has come to its parent after the end of another one (PR_SET_CHILD_SUBREAPER of "
				"prctl(2)) can't be carried from a session of its own");
	}
	return NULL;
}

int tree_find(const struct tree *tree, pid_t pid)
{
	for (size_t i = 0; i < tree->count; i++)
		if (tree->tasks[i].pid == pid)
			return (int)i;
	return -1;
}

struct tree_task *tree_add(struct tree *tree, int parent)
{
	tree->tasks = xrealloc(tree->tasks, (tree->count + 1) * sizeof(*tree->tasks));
	tree->tasks[tree->count] = (struct tree_task){.parent = parent};
	return &tree->tasks[tree->count++];
}

void tree_free(struct tree *tree)
{
	free(tree->tasks);
	*tree = (struct tree){0};
}
