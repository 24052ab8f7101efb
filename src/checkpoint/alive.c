/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/alive.h"
#include "checkpoint/connections.h"
#include "task/calls.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/descendants.h"
#include "util/procfs.h"

enum { LOOK_AGAIN_US = 5000 };

static struct error *freeze_once(pid_t pid)
{
	auto_calls struct calls *calls = calls_new();
	auto_process struct process *process = NULL;

	TRY(process_seize(pid, &process));
	process->calls = calls;
	process_look(process);
	TRY(process_stop(process));
	return process_thaw(process);
}

enum look { LOOK_BUSY, LOOK_STOPPED, LOOK_RUNS };

/* Busy: somebody traces it, or a stop has been sent to it. */
static enum look look_at_thread(pid_t pid, pid_t tid)
{
	const uint64_t stop = UINT64_C(1) << (SIGSTOP - 1);
	auto_free char *name = xformat("task/%d/status", tid);
	auto_free char *status = NULL;
	uint64_t tracer;
	uint64_t pending;

	if (procfs_read(pid, name, &status, NULL) < 0 || procfs_number(status, "TracerPid", 10, &tracer) < 0 ||
	    procfs_number(status, "ShdPnd", 16, &pending) < 0)
		return LOOK_BUSY;
	if (tracer || (pending & stop))
		return LOOK_BUSY;
	return strstr(status, "\nState:\tT") ? LOOK_STOPPED : LOOK_RUNS;
}

/* All threads alike, or busy. */
static enum look look_at(pid_t pid)
{
	auto_free int *tids = NULL;
	size_t count = 0;
	enum look first = LOOK_BUSY;

	if (procfs_numbers(pid, "task", &tids, &count) < 0)
		return LOOK_BUSY;
	for (size_t i = 0; i < count; i++) {
		enum look look = look_at_thread(pid, tids[i]);

		if (i > 0 && look != first)
			return LOOK_BUSY;
		first = look;
	}
	return first;
}

/* One that is in a group stop, and traced by nobody, has not been killed: that would have woken it. */
static struct error *try_to_prove(pid_t pid, bool *ret_is_alive)
{
	enum look look = look_at(pid);

	*ret_is_alive = look == LOOK_STOPPED;
	if (look != LOOK_RUNS)
		return NULL;
	TRY(freeze_once(pid));
	*ret_is_alive = true;
	return NULL;
}

struct error *alive_prove(const struct lock_holder *process, unsigned wait_ms, bool *ret_is_alive)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * 1000000;

	for (;;) {
		*ret_is_alive = false;
		if (procfs_has_ended(process->pid, process->start_time))
			return NULL;
		auto_error struct error *error = try_to_prove(process->pid, ret_is_alive);
		if (*ret_is_alive)
			return NULL;
		if (clock_now_ns() > end_ns && !procfs_has_ended(process->pid, process->start_time))
			return error ? take(error)
			             : error_new(ETIMEDOUT, "process %d: somebody holds it", process->pid);
		usleep(LOOK_AGAIN_US);
	}
}

/* ---- Trees ---- */

struct living {
	size_t count;
	bool has_running; /* one that isn't in a group stop */
};

static struct error *prove_each(const struct alive_tree *tree, unsigned wait_ms, struct living *living)
{
	auto_descendants struct descendants all = {0};

	descendants_list(tree->root.pid, &all);
	for (size_t i = 0; i < all.count; i++) {
		struct lock_holder process = {.pid = all.list[i].pid};
		bool is_alive = false;

		if (procfs_start_time(process.pid, &process.start_time) < 0 || procfs_is_dead(process.pid))
			continue;
		TRY(alive_prove(&process, wait_ms, &is_alive));
		living->count += is_alive;
		living->has_running |= is_alive && look_at(process.pid) == LOOK_RUNS;
	}
	return NULL;
}

static struct error *end_tree(const struct lock_holder *root, unsigned wait_ms)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * 1000000;

	(void)descendants_signal(root->pid, SIGKILL);
	while (!procfs_has_ended(root->pid, root->start_time)) {
		if (clock_now_ns() > end_ns)
			return error_new(ETIMEDOUT, "process %d doesn't end", root->pid);
		usleep(LOOK_AGAIN_US);
	}
	return NULL;
}

/* Its maker lets nobody go before all live, so where one runs they all have lived, and may have ended by themselves. */
struct error *alive_prove_tree(const struct alive_tree *tree, unsigned wait_ms, bool *ret_is_alive)
{
	struct living living = {0};

	TRY(alive_prove(&tree->root, wait_ms, ret_is_alive));
	if (!*ret_is_alive || tree->count == 1)
		return NULL;
	TRY(prove_each(tree, wait_ms, &living));
	if (living.has_running || living.count >= tree->count)
		return NULL;
	*ret_is_alive = false;
	return end_tree(&tree->root, wait_ms);
}

static bool stays_stopped(const struct alive_tree *tree, pid_t pid)
{
	for (size_t i = 0; i < tree->stopped_count; i++)
		if (tree->stopped[i] == pid)
			return true;
	return false;
}

static struct error *continue_one(pid_t pid)
{
	auto_fd int pidfd = procfs_open_pid(pid);

	if (pidfd < 0)
		return error_new(-pidfd, "process %d", pid);
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0) < 0)
		return error_new(errno, "SIGCONT to process %d", pid);
	return NULL;
}

/* The connections first: the program must not find them dead. Then children before their parents. */
struct error *alive_go_on(const struct alive_tree *tree)
{
	auto_descendants struct descendants all = {0};
	struct error *error = connections_revive(&tree->root);

	descendants_list(tree->root.pid, &all);
	for (size_t i = all.count; i-- > 0;) {
		pid_t pid = all.list[i].pid;

		if (!stays_stopped(tree, pid) && (i == 0 || look_at(pid) == LOOK_STOPPED))
			error = error_join(error, continue_one(pid));
	}
	return error;
}
