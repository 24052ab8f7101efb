/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The tasks of a tree that is built, while the program that they are copies of goes on: its processes come and go. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "checkpoint/restore/building.h"
#include "memory/areas.h"
#include "util/alloc.h"
#include "util/procfs.h"

struct build_task *build_task_new(struct build *build, size_t index)
{
	struct build_task *task = xalloc(sizeof(*task));

	task->build = build;
	task->index = index;
	return task;
}

void build_task_free(struct build_task *task)
{
	if (!task)
		return;
	memory_free(task->memory);
	process_free(task->process);
	model_free(task->model);
	file_locks_free(&task->busy_locks);
	free(task);
}

/* Waits for one thread's end, whatever it has to tell before. It may never have been made. */
static void wait_end(pid_t tid)
{
	for (;;) {
		int status;
		pid_t ended = waitpid(tid, &status, __WALL);

		if (ended < 0 ? errno != EINTR : !WIFSTOPPED(status))
			return;
	}
}

/* All threads are traced by us, also those that haven't been joined yet; the leader's end waits for theirs. */
static void end_process(pid_t pid)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	if (procfs_numbers(pid, "task", &tids, &count) < 0)
		count = 0;
	kill(pid, SIGKILL);
	for (size_t i = count; i-- > 0;)
		if (tids[i] != pid)
			wait_end(tids[i]);
	wait_end(pid);
}

void build_task_end(struct build_task *task)
{
	if (!task->process)
		return;
	end_process(task->process->pid);
	memory_free(take(task->memory));
	process_free(take(task->process));
}

/* ---- Processes that come and go ---- */

/* Its parent, which lives on, has seen its end already in the program that it is a copy of. */
static struct error *reap(const struct build_task *parent, pid_t own_pid)
{
	auto_batch struct batch *batch = process_batch(parent->process, 0);

	batch_call(batch, wait4, val((uint64_t)own_pid), val(0), val(__WALL), val(0));
	TRY(process_run(parent->process, batch));
	return build_drain_sigchld(parent);
}

uint64_t build_vdso_address(const MmEntry *mm)
{
	for (size_t i = 0; i < mm->n_vmas; i++)
		if (mm->vmas[i]->status & AREA_VDSO)
			return mm->vmas[i]->start;
	return 0;
}

/* Is it the program that the task was built for? A task that has been mapped for another one is of no use. */
static struct error *is_same_program(const struct build_task *task, pid_t own_pid, bool *ret_is_same)
{
	const struct image_store *store = task->build->store;
	ProtobufCMessage *message;

	*ret_is_same = !task->is_torn;
	if (task->is_torn || !task->memory || image_count(store, IMAGE_MM, (uint64_t)own_pid) == 0)
		return NULL;
	TRY(image_get(store, IMAGE_MM, (uint64_t)own_pid, 0, &message));
	*ret_is_same = build_vdso_address((const MmEntry *)message) == task->vdso_address;
	mm_entry__free_unpacked((MmEntry *)message, NULL);
	return NULL;
}

struct error *build_forgive(struct build *build, pid_t own_pid, struct error *error)
{
	int at = tree_find(&build->tree, own_pid);

	if (!error || at <= 0 || !build->options.program_runs || error_errnum(error) != EFAULT)
		return error;
	build->tasks[at]->is_torn = true;
	error_free(error);
	return NULL;
}

/* Where that task of the old tree is in the new one, if it is the same process; -1: it isn't there. */
static int find_same(const struct tree *old, size_t index, const struct tree *new, const int *same)
{
	const struct tree_task *task = &old->tasks[index];
	int at = tree_find(new, task->pid);

	if (at < 0 || (at == 0) != (index == 0))
		return -1;
	/* Also one whose parent is made anew, and so has no children. */
	if (at > 0 && new->tasks[at].parent != same[task->parent])
		return -1;
	/* A new process may have the number of one that is dead. */
	return task->is_zombie && !new->tasks[at].is_zombie ? -1 : at;
}

static struct error *find_all_same(const struct build *build, const struct tree *new, int *same)
{
	for (size_t i = 0; i < build->tree.count; i++) {
		pid_t pid = build->tree.tasks[i].pid;
		bool is_same;

		TRY(is_same_program(build->tasks[i], pid, &is_same));
		if (!is_same && i == 0)
			return error_hint(error_new(EAGAIN, "process %d has executed another program meanwhile", pid),
			                  "try again");
		same[i] = is_same ? find_same(&build->tree, i, new, same) : -1;
	}
	return NULL;
}

/* Children first: who ends before its parent can be reaped. */
static struct error *end_others(const struct build *build, const int *same)
{
	for (size_t i = build->tree.count; i-- > 1;) {
		struct build_task *task = build->tasks[i];
		const struct build_task *parent = build->tasks[build->tree.tasks[i].parent];

		if (same[i] >= 0)
			continue;
		build_task_end(task);
		TRY(reap(parent, build->tree.tasks[i].pid), "process %d", build->tree.tasks[i].pid);
	}
	return NULL;
}

static struct error *check_root(const struct tree *old, const struct tree *new)
{
	const struct tree_task *before = &old->tasks[0];
	const struct tree_task *now = &new->tasks[0];

	if (before->pid != now->pid)
		return error_new(EBADMSG, "images of PID %d, not %d", now->pid, before->pid);
	if (before->session == now->session && before->group == now->group)
		return NULL;
	return error_hint(
		error_new(EAGAIN, "process %d has gone to another session or process group meanwhile", now->pid),
		"try again");
}

/* The dead whose process still lives end with build_make_family(). */
static void take_tree(struct build *build, struct tree *tree, const int *same)
{
	struct build_task **tasks = xalloc(tree->count * sizeof(*tasks));

	for (size_t i = 0; i < build->tree.count; i++) {
		if (same[i] < 0) {
			build_task_free(build->tasks[i]);
			continue;
		}
		tasks[same[i]] = build->tasks[i];
		tasks[same[i]]->index = (size_t)same[i];
	}
	for (size_t i = 0; i < tree->count; i++)
		if (!tasks[i])
			tasks[i] = build_task_new(build, i);
	free(build->tasks);
	tree_free(&build->tree);
	build->tasks = tasks;
	build->tree = *tree;
	*tree = (struct tree){0};
}

struct error *build_match(struct build *build)
{
	auto_tree struct tree tree = {0};
	auto_free int *same = xalloc(build->tree.count * sizeof(*same));

	TRY(model_read_tree(build->store, &tree));
	TRY(check_root(&build->tree, &tree));
	TRY(find_all_same(build, &tree, same));
	TRY(end_others(build, same));
	take_tree(build, &tree, same);
	return NULL;
}
