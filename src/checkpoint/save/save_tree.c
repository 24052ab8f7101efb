/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>

#include "checkpoint/save/save_tree.h"
#include "pstree.pb-c.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* As the image names it. */
enum { TASK_DEAD = 2 };

static void put_entry(const struct live_tree *live, size_t task, uint32_t *tids, size_t count,
                      struct image_store *store)
{
	const struct tree_task *tasks = live->tree.tasks;
	PstreeEntry entry = PSTREE_ENTRY__INIT;

	entry.pid = (uint32_t)tasks[task].pid;
	entry.ppid = tasks[task].parent == TREE_NO_PARENT ? 0 : (uint32_t)tasks[tasks[task].parent].pid;
	entry.pgid = (uint32_t)tasks[task].group;
	entry.sid = (uint32_t)tasks[task].session;
	entry.n_threads = count;
	entry.threads = tids;
	image_put(store, IMAGE_PSTREE, 0, &entry.base);
}

static void put_held(const struct live_tree *live, size_t task, const struct process *process,
                     struct image_store *store)
{
	auto_free uint32_t *tids = xalloc(process->thread_count * sizeof(*tids));

	for (size_t i = 0; i < process->thread_count; i++)
		tids[i] = (uint32_t)process->threads[i].own_tid;
	put_entry(live, task, tids, process->thread_count, store);
}

/* Those that there are just now, the leader first. */
static struct error *put_running(const struct live_tree *live, size_t task, struct image_store *store)
{
	const struct open_task *seen = &live->list[task];
	auto_free int *all = NULL;
	size_t count;
	size_t used = 1;

	int r = procfs_numbers(seen->pid, "task", &all, &count);
	if (r < 0)
		return error_new(-r, "threads of process %d", seen->pid);
	auto_free uint32_t *tids = xalloc((count + 1) * sizeof(*tids));
	tids[0] = (uint32_t)seen->own_pid;
	for (size_t i = 0; i < count; i++) {
		pid_t own_tid = all[i];

		if (all[i] == seen->pid)
			continue;
		/* One that has ended by now is left out. */
		if (seen->own_pid == seen->pid || procfs_own_tid(seen->pid, all[i], &own_tid) == 0)
			tids[used++] = (uint32_t)own_tid;
	}
	put_entry(live, task, tids, used, store);
	return NULL;
}

struct error *save_tree_entry(const struct live_tree *live, size_t task, const struct process *process,
                              struct image_store *store)
{
	if (!process)
		return put_running(live, task, store);
	put_held(live, task, process, store);
	return NULL;
}

void save_tree_ids(const struct tree_task *task, TaskKobjIdsEntry *ret_ids)
{
	task_kobj_ids_entry__init(ret_ids);
	ret_ids->vm_id = task->ids[SHARED_VM];
	ret_ids->files_id = task->ids[SHARED_FILES];
	ret_ids->fs_id = task->ids[SHARED_FS];
	ret_ids->sighand_id = task->ids[SHARED_SIGHAND];
}

static struct error *put_zombie(const struct live_tree *live, size_t task, struct image_store *store)
{
	CoreEntry core = CORE_ENTRY__INIT;
	TaskCoreEntry tc = TASK_CORE_ENTRY__INIT;
	auto_free char *name = NULL;
	uint32_t tid = (uint32_t)live->tree.tasks[task].pid;

	int r = procfs_read(live->list[task].pid, "comm", &name, NULL);
	if (r < 0)
		return error_new(-r, "name of process %d, which has ended", live->list[task].pid);
	name[strcspn(name, "\n")] = '\0';
	tc.task_state = TASK_DEAD;
	tc.exit_code = (uint32_t)live->tree.tasks[task].exit_code;
	tc.comm = name;
	core.mtype = CORE_ENTRY__MARCH__X86_64;
	core.tc = &tc;
	image_put(store, IMAGE_CORE, tid, &core.base);
	put_entry(live, task, &tid, 1, store);
	return NULL;
}

static void put_living(const struct live_tree *live, size_t task, const struct process *process,
                       struct image_store *store)
{
	TaskKobjIdsEntry ids;

	put_held(live, task, process, store);
	save_tree_ids(&live->tree.tasks[task], &ids);
	image_put(store, IMAGE_IDS, (uint64_t)live->tree.tasks[task].pid, &ids.base);
}

struct error *save_tree(const struct live_tree *live, const struct frozen *frozen, struct image_store *store)
{
	for (size_t i = 0; i < live->tree.count; i++) {
		if (live->tree.tasks[i].is_zombie)
			TRY(put_zombie(live, i, store));
		else
			put_living(live, i, frozen->processes[i], store);
	}
	return NULL;
}
