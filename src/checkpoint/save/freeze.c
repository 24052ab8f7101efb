/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/save/children.h"
#include "checkpoint/save/freeze.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/test_stop.h"

/* What is allocated in a freeze, roughly: for any program, and for each of its threads. */
enum { FIXED_ROOM_BYTES = 512 << 10, THREAD_ROOM_BYTES = 16 << 10 };

/* ---- What threads wait for ---- */

struct tree_calls {
	struct of_process {
		pid_t pid;
		struct calls *calls; /* owned */
	} * list;                    /* owned */
	size_t count;
};

struct tree_calls *tree_calls_new(void)
{
	return xalloc(sizeof(struct tree_calls));
}

void tree_calls_free(struct tree_calls *calls)
{
	if (!calls)
		return;
	for (size_t i = 0; i < calls->count; i++)
		calls_free(calls->list[i].calls);
	free(calls->list);
	free(calls);
}

static struct calls *calls_of(struct tree_calls *calls, pid_t pid)
{
	for (size_t i = 0; i < calls->count; i++)
		if (calls->list[i].pid == pid)
			return calls->list[i].calls;
	calls->list = xrealloc(calls->list, (calls->count + 1) * sizeof(*calls->list));
	calls->list[calls->count] = (struct of_process){.pid = pid, .calls = calls_new()};
	return calls->list[calls->count++].calls;
}

/* ---- Freezing ---- */

/* What is so of a process that isn't the root: has it ended, or become another program? Then that is no error. */
static struct error *changed_from(struct error *error, bool is_root, bool *ret_is_changed)
{
	int errnum = error ? error_errnum(error) : 0;

	*ret_is_changed = !is_root && (errnum == ESRCH || errnum == ENOENT || errnum == EAGAIN);
	if (!*ret_is_changed)
		return error;
	error_free(error);
	return NULL;
}

static struct error *seize_all(const struct live_tree *live, struct tree_calls *calls, struct frozen *frozen,
                               bool *ret_is_changed)
{
	for (size_t i = 0; i < live->tree.count && !*ret_is_changed; i++) {
		struct process **process = &frozen->processes[i];

		if (live->tree.tasks[i].is_zombie)
			continue;
		TRY(changed_from(process_seize(live->list[i].pid, process), i == 0, ret_is_changed));
		if (*process && calls)
			(*process)->calls = calls_of(calls, live->list[i].pid);
	}
	return NULL;
}

static size_t thread_count(const struct frozen *frozen)
{
	size_t count = 0;

	for (size_t i = 0; i < frozen->count; i++)
		count += frozen->processes[i] ? frozen->processes[i]->thread_count : 0;
	return count;
}

/* Parents first: one that waits for its child of vfork(2) can't be stopped before that has executed a program. */
static struct error *stop_all(struct frozen *frozen, bool *ret_is_changed)
{
	for (size_t i = 0; i < frozen->count; i++)
		if (frozen->processes[i])
			process_look(frozen->processes[i]);
	for (size_t i = 0; i < frozen->count && !*ret_is_changed; i++)
		if (frozen->processes[i])
			TRY(changed_from(process_stop(frozen->processes[i]), i == 0, ret_is_changed));
	frozen->began_ns = frozen->processes[0]->stop_began_ns;
	return NULL;
}

/* The process that was looked at, and the same program. */
static bool is_same_process(const struct live_tree *live, size_t task, const struct process *process)
{
	return syscall(SYS_pidfd_send_signal, live->list[task].pidfd, 0, NULL, 0) == 0 &&
	       program_id_is_current(&live->programs[task], process->mem_fd);
}

/* The children that a stopped task has are those that it had when the tree was read. */
static bool has_same_children(const struct live_tree *live, size_t task)
{
	auto_free int *pids = NULL;
	size_t count = 0;
	size_t known = 0;

	if (procfs_children(live->list[task].pid, &pids, &count) < 0)
		return false;
	for (size_t i = 1; i < live->tree.count; i++)
		known += live->tree.tasks[i].parent == (int)task;
	if (known != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		size_t child = 1;

		while (child < live->tree.count && live->list[child].pid != pids[i])
			child++;
		if (child == live->tree.count || live->tree.tasks[child].parent != (int)task)
			return false;
	}
	return true;
}

static bool has_children(const struct live_tree *live, size_t task)
{
	for (size_t i = task + 1; i < live->tree.count; i++)
		if (live->tree.tasks[i].parent == (int)task)
			return true;
	return false;
}

/* Of a process that had none one call tells it; that is the usual one, perhaps with a thousand threads. */
static struct error *find_changes(const struct live_tree *live, struct frozen *frozen, bool *ret_is_changed)
{
	for (size_t i = 0; i < frozen->count && !*ret_is_changed; i++) {
		if (!frozen->processes[i])
			continue;
		if (!is_same_process(live, i, frozen->processes[i]))
			*ret_is_changed = true;
		else if (has_children(live, i))
			*ret_is_changed = !has_same_children(live, i);
		else
			TRY(children_ask(frozen->processes[i], ret_is_changed));
	}
	return NULL;
}

static struct error *park_all(struct frozen *frozen)
{
	for (size_t i = 0; i < frozen->count; i++) {
		if (!frozen->processes[i])
			continue;
		TRY(process_read_rest(frozen->processes[i]));
		TRY(process_enter(frozen->processes[i], 0, 0));
	}
	return NULL;
}

static struct error *freeze_all(const struct live_tree *live, struct tree_calls *calls, size_t room_bytes,
                                struct frozen *frozen, bool *ret_is_changed)
{
	TRY(seize_all(live, calls, frozen, ret_is_changed));
	if (*ret_is_changed)
		return NULL;
	alloc_warm(FIXED_ROOM_BYTES + thread_count(frozen) * THREAD_ROOM_BYTES + room_bytes);
	TRY(stop_all(frozen, ret_is_changed));
	if (*ret_is_changed)
		return NULL;
	TRY(park_all(frozen));
	return find_changes(live, frozen, ret_is_changed);
}

struct error *freeze(const struct live_tree *live, struct tree_calls *calls, size_t room_bytes,
                     struct frozen **ret_frozen, enum obstacle *ret_obstacle)
{
	auto_frozen struct frozen *frozen = xalloc(sizeof(*frozen));
	bool is_changed = false;

	frozen->processes = xalloc(live->tree.count * sizeof(struct process *));
	frozen->count = live->tree.count;
	TRY(freeze_all(live, calls, room_bytes, frozen, &is_changed));
	*ret_obstacle = is_changed ? OBSTACLE_PROCESSES : OBSTACLE_NONE;
	*ret_frozen = take(frozen);
	return NULL;
}

struct error *frozen_set_stay(struct frozen *frozen, bool stay)
{
	struct error *error = NULL;

	for (size_t i = frozen->count; i-- > 0;)
		if (frozen->processes[i])
			error = error_join(error, process_set_stay(frozen->processes[i], stay));
	return error;
}

/* ---- Its end ---- */

static struct error *end_each(struct frozen *frozen, struct error *(*end)(struct process *process))
{
	struct error *error = NULL;

	for (size_t i = frozen->count; i-- > 0;) {
		if (!frozen->processes[i])
			continue;
		error = error_join(error, end(frozen->processes[i]));
		process_free(take(frozen->processes[i]));
	}
	return error;
}

static bool is_stopped(const struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_stopped && !process->threads[i].is_gone)
			return false;
	return true;
}

/* What has only been seized has to be stopped before ptrace lets it go. */
static struct error *thaw_one(struct process *process)
{
	if (!process->stub && !is_stopped(process))
		error_free(process_stop(process));
	return process->thread_count > 0 ? process_thaw(process) : NULL;
}

struct error *frozen_thaw(struct frozen *frozen)
{
	return end_each(frozen, thaw_one);
}

struct error *frozen_leave_stopped(struct frozen *frozen)
{
	return end_each(frozen, process_leave_stopped);
}

struct error *frozen_end(struct frozen *frozen, int status)
{
	for (size_t i = frozen->count; i-- > 0;) {
		if (!frozen->processes[i])
			continue;
		TRY(i > 0 || status < 0 ? process_end(frozen->processes[i])
		                        : process_exit(frozen->processes[i], status));
		process_free(take(frozen->processes[i]));
	}
	return NULL;
}

void frozen_abandon(struct frozen *frozen)
{
	for (size_t i = 0; i < frozen->count; i++)
		process_free(take(frozen->processes[i]));
}

struct error *obstacle_from(struct error *error, bool is_last_try, enum obstacle *ret_obstacle)
{
	*ret_obstacle = OBSTACLE_NONE;
	if (!error || is_last_try || error_errnum(error) != EAGAIN)
		return error;
	error_free(error);
	*ret_obstacle = OBSTACLE_UNREAD;
	return NULL;
}

void obstacle_log(enum obstacle obstacle, struct log *log)
{
	static const char *const texts[] = {
		[OBSTACLE_NONE] = "nothing is in the way",
		[OBSTACLE_PROCESSES] = "processes have come or gone",
		[OBSTACLE_CHILDREN] = "it has a child process by now",
		[OBSTACLE_CONNECTIONS] = "connections wait to be accepted",
		[OBSTACLE_UNREAD] = "something waits to be read",
	};

	log_line(log, LOG_PHASES, "it goes on once more: %s", texts[obstacle]);
	test_stop("again");
}

struct error *obstacle_error(enum obstacle obstacle, pid_t pid)
{
	struct error *children = NULL;

	switch (obstacle) {
	case OBSTACLE_PROCESSES:
		return error_hint(error_new(EAGAIN, "processes come and go too fast in its tree"), "try again later");
	case OBSTACLE_CHILDREN:
		children = children_check(pid);
		return children ? children
		                : error_hint(error_new(EAGAIN, "it makes a child process again and again"),
		                             "try again later");
	case OBSTACLE_CONNECTIONS:
		return error_hint(
			error_new(EAGAIN, "connections wait to be accepted, and the program doesn't accept them"),
			"close the clients that wait, or try again later");
	case OBSTACLE_UNREAD: /* the last try has told what it is */
	case OBSTACLE_NONE:
		break;
	}
	return NULL;
}

void frozen_free(struct frozen *frozen)
{
	if (!frozen)
		return;
	/* On the way out of something that failed for a reason of its own, which is the one to tell. */
	error_free(frozen_thaw(frozen));
	free(frozen->processes);
	free(frozen);
}
