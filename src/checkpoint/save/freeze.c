/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/save/children.h"
#include "checkpoint/save/freeze.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/descendants.h"
#include "util/procfs.h"
#include "util/test_stop.h"

/* What is allocated in a freeze, roughly: for any program, and for each of its threads. */
enum { FIXED_ROOM_BYTES = 512 << 10, THREAD_ROOM_BYTES = 16 << 10 };
enum { HOLD_NS = 1000 * 1000 * 1000, BETWEEN_PASSES_US = 100 };

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

static struct error *thaw_one(struct process *process);

/* One that isn't as it was any more goes on, for now. */
static void let_go(struct process **process)
{
	if (*process)
		error_free(thaw_one(*process));
	process_free(take(*process));
}

/* *process stays NULL where it has ended, or is another program by now. */
static struct error *seize(pid_t pid, bool is_root, struct tree_calls *calls, struct process **process,
                           bool *ret_is_changed)
{
	TRY(changed_from(process_seize(pid, process), is_root, ret_is_changed));
	if (*process && calls)
		(*process)->calls = calls_of(calls, pid);
	return NULL;
}

static struct error *seize_all(const struct live_tree *live, struct tree_calls *calls, struct frozen *frozen)
{
	bool is_changed;

	for (size_t i = 0; i < live->tree.count; i++)
		if (!live->tree.tasks[i].is_zombie)
			TRY(seize(live->list[i].pid, i == 0, calls, &frozen->processes[i], &is_changed));
	return NULL;
}

static size_t thread_count(const struct frozen *frozen)
{
	size_t count = 0;

	for (size_t i = 0; i < frozen->count; i++)
		count += frozen->processes[i] ? frozen->processes[i]->thread_count : 0;
	return count;
}

static struct error *stop(struct process **process, bool is_root, bool *ret_is_changed)
{
	TRY(changed_from(process_stop(*process), is_root, ret_is_changed));
	if (*ret_is_changed)
		let_go(process);
	return NULL;
}

/* Parents first: one that waits for its child of vfork(2) can't be stopped before that has executed a program. */
static struct error *stop_all(struct frozen *frozen)
{
	bool is_changed;

	for (size_t i = 0; i < frozen->count; i++)
		if (frozen->processes[i])
			process_look(frozen->processes[i]);
	for (size_t i = 0; i < frozen->count; i++)
		if (frozen->processes[i])
			TRY(stop(&frozen->processes[i], i == 0, &is_changed));
	frozen->began_ns = frozen->processes[0]->stop_began_ns;
	return NULL;
}

/* ---- Trees that are others by now ---- */

static bool is_held(const struct frozen *frozen, pid_t pid)
{
	for (size_t i = 0; i < frozen->count; i++)
		if (frozen->processes[i] && frozen->processes[i]->pid == pid)
			return true;
	return false;
}

/* One that has ended, or become another program, is for the next pass. */
static struct error *hold(pid_t pid, struct tree_calls *calls, struct frozen *frozen)
{
	struct process *process = NULL;
	bool is_changed;

	struct error *error = seize(pid, false, calls, &process, &is_changed);
	if (!error && process) {
		process_look(process);
		error = stop(&process, false, &is_changed);
	}
	if (error)
		let_go(&process);
	if (!process)
		return error;
	frozen->processes = xrealloc(frozen->processes, (frozen->count + 1) * sizeof(struct process *));
	frozen->processes[frozen->count++] = process;
	return NULL;
}

/* Those who aren't yet. *ret_is_whole: all were. One that is about to end can't be stopped any more, and isn't dead yet. */
static struct error *hold_others(const struct descendants *found, struct tree_calls *calls, struct frozen *frozen,
                                 bool *ret_is_whole)
{
	*ret_is_whole = true;
	for (size_t i = 0; i < found->count; i++) {
		pid_t pid = found->list[i].pid;

		if (is_held(frozen, pid) || live_tree_is_zombie(pid))
			continue;
		*ret_is_whole = false;
		TRY(hold(pid, calls, frozen));
	}
	return NULL;
}

/* Whoever stands still makes no children, so there is an end, unless they are made faster than they are found. */
static struct error *hold_all(pid_t root, struct tree_calls *calls, struct frozen *frozen,
                              struct descendants *ret_found)
{
	uint64_t end_ns = clock_now_ns() + HOLD_NS;

	for (;;) {
		bool is_whole;

		descendants_free(ret_found);
		descendants_list(root, ret_found);
		TRY(hold_others(ret_found, calls, frozen, &is_whole));
		if (is_whole)
			return NULL;
		if (clock_now_ns() >= end_ns)
			return error_hint(error_new(EAGAIN, "processes are made faster than they can be stopped"),
			                  "try again later");
		usleep(BETWEEN_PASSES_US);
	}
}

/* The process that was looked at, and the same program. */
static bool is_same_process(const struct live_tree *live, size_t task, const struct process *process)
{
	return process && syscall(SYS_pidfd_send_signal, live->list[task].pidfd, 0, NULL, 0) == 0 &&
	       program_id_is_current(&live->programs[task], process->mem_fd);
}

/* Is it what it was? All that live are held, and the first of them are those of the tree. */
static bool is_current(const struct live_tree *live, const struct frozen *frozen, const struct descendants *found)
{
	if (frozen->count != live->tree.count || found->count != live->tree.count)
		return false;
	for (size_t i = 0; i < live->tree.count; i++)
		if (!live->tree.tasks[i].is_zombie && !is_same_process(live, i, frozen->processes[i]))
			return false;
	for (size_t i = 0; i < found->count; i++) {
		int at = live_tree_find(live, found->list[i].pid);

		if (at < 0 || live->tree.tasks[at].is_zombie == is_held(frozen, found->list[i].pid))
			return false;
	}
	return true;
}

/* As in the tree; who is in it no more, since its parent has ended, goes on. */
static struct error *arrange(const struct live_tree *live, struct frozen *frozen)
{
	struct process **processes = xalloc(live->tree.count * sizeof(*processes));
	struct error *error = NULL;

	for (size_t i = 0; i < frozen->count; i++) {
		int at = frozen->processes[i] ? live_tree_find(live, frozen->processes[i]->pid) : -1;

		if (at < 0)
			let_go(&frozen->processes[i]);
		else
			processes[at] = frozen->processes[i];
	}
	free(frozen->processes);
	frozen->processes = processes;
	frozen->count = live->tree.count;
	for (size_t i = 0; i < live->tree.count && !error; i++)
		if (!processes[i] && !live->tree.tasks[i].is_zombie)
			error = error_new(EAGAIN, "process %d has just come", live->list[i].pid);
	return error;
}

/* Stops all that there is by now, and lets it be looked at. */
static struct error *follow(const struct freeze_request *request, struct frozen *frozen, bool *ret_is_changed)
{
	const struct live_tree *live = request->live;
	auto_descendants struct descendants found = {0};

	TRY(hold_all(live->list[0].pid, request->calls, frozen, &found));
	*ret_is_changed = !is_current(live, frozen, &found);
	if (!*ret_is_changed || !request->relook)
		return NULL;
	auto_error struct error *error = request->relook->look(request->relook->context, &live);
	if (error && error_errnum(error) == EAGAIN)
		return NULL;
	TRY(take(error));
	*ret_is_changed = false;
	return arrange(live, frozen);
}

/* A process that had no children, perhaps with a thousand threads: one call tells whether it has one by now. */
static struct error *find_child(const struct freeze_request *request, const struct frozen *frozen, bool *ret_is_changed)
{
	*ret_is_changed = !is_same_process(request->live, 0, frozen->processes[0]);
	return *ret_is_changed ? NULL : children_ask(frozen->processes[0], ret_is_changed);
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

static struct error *freeze_all(const struct freeze_request *request, struct frozen *frozen, bool *ret_is_changed)
{
	TRY(seize_all(request->live, request->calls, frozen));
	alloc_warm(FIXED_ROOM_BYTES + thread_count(frozen) * THREAD_ROOM_BYTES + request->room_bytes);
	TRY(stop_all(frozen));
	bool is_alone = request->live->tree.count == 1 && !request->has_children;
	if (!is_alone)
		TRY(follow(request, frozen, ret_is_changed));
	if (*ret_is_changed)
		return NULL;
	TRY(park_all(frozen));
	return is_alone ? find_child(request, frozen, ret_is_changed) : NULL;
}

struct error *freeze(const struct freeze_request *request, struct frozen **ret_frozen, enum obstacle *ret_obstacle)
{
	auto_frozen struct frozen *frozen = xalloc(sizeof(*frozen));
	bool is_changed = false;

	frozen->processes = xalloc(request->live->tree.count * sizeof(struct process *));
	frozen->count = request->live->tree.count;
	TRY(freeze_all(request, frozen, &is_changed));
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
