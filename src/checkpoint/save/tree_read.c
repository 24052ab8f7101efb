/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/save/tree_read.h"
#include "util/alloc.h"
#include "util/descendants.h"
#include "util/procfs.h"

enum { TRIES = 20, STAT_EXIT_SIGNAL = 38, STAT_EXIT_CODE = 52 };

/* What kcmp(2) calls the kinds. */
static const int kcmp_types[SHARED_KIND_COUNT] = {
	[SHARED_VM] = KCMP_VM,
	[SHARED_FILES] = KCMP_FILES,
	[SHARED_FS] = KCMP_FS,
	[SHARED_SIGHAND] = KCMP_SIGHAND,
};

void live_tree_free(struct live_tree *live)
{
	for (size_t i = 0; i < live->tree.count; i++)
		if (live->list[i].pidfd >= 0)
			close(live->list[i].pidfd);
	free(live->list);
	free(live->programs);
	tree_free(&live->tree);
	*live = (struct live_tree){0};
}

/* ---- What they share ---- */

/* Those with an object that none before them has, in the order that kcmp(2) has for them. */
struct owners {
	size_t *list; /* owned: indices of tasks */
	size_t count;
};

/* kcmp(2): 0 equal, 1 less, 2 greater. */
static struct error *find_owner(const struct live_tree *live, enum shared_kind kind, size_t task,
                                const struct owners *owners, size_t *ret_position, bool *ret_is_found)
{
	size_t low = 0;
	pid_t pid = live->list[task].pid;

	*ret_is_found = false;
	for (size_t high = owners->count; low < high && !*ret_is_found;) {
		size_t middle = low + (high - low) / 2;
		pid_t other = live->list[owners->list[middle]].pid;
		long r = syscall(SYS_kcmp, pid, other, kcmp_types[kind], 0, 0);

		if (r < 0)
			return error_new(errno, "kcmp(%d, %d)", pid, other);
		*ret_is_found = r == 0;
		if (r == 0)
			low = middle;
		else if (r == 1)
			high = middle;
		else
			low = middle + 1;
	}
	*ret_position = low;
	return NULL;
}

static struct error *identify_one(struct live_tree *live, enum shared_kind kind, size_t task, struct owners *owners)
{
	struct tree_task *tasks = live->tree.tasks;
	size_t position = 0;
	bool is_found = false;

	TRY(find_owner(live, kind, task, owners, &position, &is_found));
	if (is_found) {
		tasks[task].ids[kind] = tasks[owners->list[position]].ids[kind];
		return NULL;
	}
	for (size_t i = owners->count; i > position; i--)
		owners->list[i] = owners->list[i - 1];
	owners->list[position] = task;
	owners->count++;
	tasks[task].ids[kind] = (uint32_t)owners->count;
	return NULL;
}

/* Ids count from 1 by first appearance. */
static struct error *identify(struct live_tree *live, enum shared_kind kind)
{
	auto_free size_t *list = xalloc(live->tree.count * sizeof(*list));
	struct owners owners = {.list = list};

	for (size_t i = 0; i < live->tree.count; i++)
		if (!live->tree.tasks[i].is_zombie)
			TRY(identify_one(live, kind, i, &owners));
	return NULL;
}

/* ---- Who they are ---- */

static struct error *read_end(pid_t pid, struct tree_task *task)
{
	uint64_t exit_code = 0;
	int r = procfs_stat_field(pid, STAT_EXIT_CODE, &exit_code);

	if (r < 0)
		return error_new(-r, "exit status of process %d", pid);
	task->exit_code = (int)exit_code;
	return NULL;
}

static struct error *read_groups(pid_t pid, struct tree_task *task)
{
	int r = procfs_own_groups(pid, &task->group, &task->session);

	return r < 0 ? error_new(-r, "group and session of process %d", pid) : NULL;
}

/* A first thread that has ended looks like that, too, while others run on: proc_pid_stat(5). */
bool live_tree_is_zombie(pid_t pid)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	return procfs_is_dead(pid) && (procfs_numbers(pid, "task", &tids, &count) < 0 || count <= 1);
}

static struct error *read_task(pid_t pid, struct tree_task *task, struct open_task *seen)
{
	*seen = (struct open_task){.pid = pid, .own_pid = pid, .pidfd = -1};
	task->is_zombie = live_tree_is_zombie(pid);
	if (!task->is_zombie)
		seen->pidfd = procfs_open_pid(pid);
	if (!task->is_zombie && seen->pidfd < 0)
		return error_new(-seen->pidfd, "process %d", pid);
	(void)procfs_own_tid(pid, pid, &seen->own_pid);
	task->pid = seen->own_pid;
	TRY(read_groups(pid, task));
	return task->is_zombie ? read_end(pid, task) : NULL;
}

static struct error *read_these(const struct descendants *found, struct live_tree *live)
{
	live->list = xalloc(found->count * sizeof(*live->list));
	live->programs = xalloc(found->count * sizeof(*live->programs));
	for (size_t i = 0; i < found->count; i++) {
		struct tree_task *task = tree_add(&live->tree, found->list[i].parent);

		TRY(read_task(found->list[i].pid, task, &live->list[i]));
		program_id_read(found->list[i].pid, &live->programs[i]);
	}
	if (live->tree.count == 0 || live->tree.tasks[0].is_zombie)
		return error_new(ESRCH, "process %d", found->list[0].pid);
	for (enum shared_kind kind = 0; kind < SHARED_KIND_COUNT; kind++)
		TRY(identify(live, kind));
	for (size_t i = 0; i < live->tree.count; i++)
		live->list[i].files_id = live->tree.tasks[i].ids[SHARED_FILES];
	return NULL;
}

static struct error *read_once(pid_t pid, struct live_tree *live)
{
	auto_descendants struct descendants found;

	descendants_list(pid, &found);
	return read_these(&found, live);
}

struct error *live_tree_read_root(pid_t pid, struct live_tree *ret_live)
{
	struct descendant root = {.pid = pid, .parent = TREE_NO_PARENT};
	const struct descendants found = {.list = &root, .count = 1};

	*ret_live = (struct live_tree){0};
	return read_these(&found, ret_live);
}

struct error *live_tree_read(pid_t pid, struct live_tree *ret_live)
{
	for (int tries = 1;; tries++) {
		auto_live_tree struct live_tree live = {0};
		auto_error struct error *error = read_once(pid, &live);

		if (!error) {
			*ret_live = live;
			live = (struct live_tree){0};
			return NULL;
		}
		/* One of them may have ended meanwhile. */
		if (procfs_is_dead(pid) || live.tree.count <= 1)
			return take(error);
		if (tries == TRIES)
			return error_hint(error_new(EAGAIN, "processes come and go faster than they can be looked at"),
			                  "try again later");
	}
}

int live_tree_find(const struct live_tree *live, pid_t pid)
{
	for (size_t i = 0; i < live->tree.count; i++)
		if (live->list[i].pid == pid)
			return (int)i;
	return -1;
}

bool live_tree_is_current(const struct live_tree *live)
{
	auto_descendants struct descendants found;

	descendants_list(live->list[0].pid, &found);
	for (size_t i = 0; i < found.count; i++) {
		struct program_id program;
		int known = live_tree_find(live, found.list[i].pid);

		if (known < 0 || live->tree.tasks[known].is_zombie != live_tree_is_zombie(found.list[i].pid))
			return false;
		if (live->tree.tasks[known].is_zombie)
			continue;
		program_id_read(found.list[i].pid, &program);
		/* Without one it is about to execute a program, or to end. */
		if (!program.random_address || !program_id_is_same(&program, &live->programs[known]))
			return false;
	}
	return found.count == live->tree.count;
}

struct error *live_tree_refresh(struct live_tree *live)
{
	for (size_t i = 0; i < live->tree.count; i++)
		TRY(read_groups(live->list[i].pid, &live->tree.tasks[i]));
	return NULL;
}

void live_tree_detach(struct live_tree *live)
{
	const struct tree_task root = live->tree.tasks[0];

	for (size_t i = 0; i < live->tree.count; i++) {
		struct tree_task *task = &live->tree.tasks[i];

		if (task->session != root.session)
			continue;
		task->session = root.pid;
		if (task->group == root.group)
			task->group = root.pid;
	}
}

/* ---- What can't be carried ---- */

/* A child of vfork(2) shares memory until it executes a program: that passes. */
static struct error *check_sharing(const struct live_tree *live, size_t task)
{
	uint64_t flags;
	size_t owner = tree_owner(&live->tree, SHARED_VM, task);

	if (owner != task)
		return error_hint(error_new(EAGAIN, "process %d shares its memory with process %d (clone(2), CLONE_VM)",
		                            live->list[task].pid, live->list[owner].pid),
		                  "processes that share memory can't be carried, threads can");
	if (task == 0 || tree_maker(&live->tree, task, &flags) >= 0)
		return NULL;
	return error_new(ENOTSUP,
	                 "process %d shares descriptors or folders with a process that is neither its parent nor "
	                 "a child of that (clone(2))",
	                 live->list[task].pid);
}

static struct error *check_exit_signal(pid_t pid)
{
	uint64_t signal = SIGCHLD;

	if (procfs_stat_field(pid, STAT_EXIT_SIGNAL, &signal) < 0 || signal == SIGCHLD)
		return NULL;
	return error_hint(error_new(ENOTSUP, "process %d tells its parent of its end by signal %d, not SIGCHLD", pid,
	                            (int)signal),
	                  "such children (clone(2)) can't be carried yet");
}

void live_tree_check(const struct live_tree *live, struct problems *problems)
{
	problems_add(problems, tree_check_births(&live->tree));
	for (size_t i = 0; i < live->tree.count; i++) {
		if (!live->tree.tasks[i].is_zombie)
			problems_add(problems, check_sharing(live, i));
		if (i > 0)
			problems_add(problems, check_exit_signal(live->list[i].pid));
	}
}
