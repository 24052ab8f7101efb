/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <signal.h>
#include <stdlib.h>

#include "util/alloc.h"
#include "util/descendants.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

static void add(struct descendants *descendants, pid_t pid, int parent)
{
	descendants->list = xrealloc(descendants->list, (descendants->count + 1) * sizeof(*descendants->list));
	descendants->list[descendants->count++] = (struct descendant){.pid = pid, .parent = parent};
}

void descendants_list(pid_t pid, struct descendants *ret_descendants)
{
	*ret_descendants = (struct descendants){0};
	add(ret_descendants, pid, -1);
	for (size_t i = 0; i < ret_descendants->count; i++) {
		auto_free int *pids = NULL;
		size_t count = 0;

		(void)procfs_children(ret_descendants->list[i].pid, &pids, &count);
		for (size_t n = 0; n < count; n++)
			add(ret_descendants, pids[n], (int)i);
	}
}

int descendants_signal(pid_t pid, int signal)
{
	auto_descendants struct descendants all;

	descendants_list(pid, &all);
	for (size_t i = all.count; i-- > 1;)
		kill(all.list[i].pid, signal);
	return kill(pid, signal) < 0 ? negative_errno() : 0;
}

void descendants_free(struct descendants *descendants)
{
	free(descendants->list);
	*descendants = (struct descendants){0};
}
