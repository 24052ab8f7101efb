/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

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
