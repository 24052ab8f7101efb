/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * All processes of a tree but the root: who makes whom, in which session and process group.
 *
 * Each is made by its parent, while both are bare: by a clone3(2) that the parent makes, so all that a child inherits is as
 * it was. A session is inherited, too, so whether a child is made before or after its parent begins one of its own follows
 * from the session that the child is in by now. A session or a group outlives its leader: then somebody has its number for
 * a moment, and makes it.
 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/restore/building.h"
#include "checkpoint/restore/nursery.h"
#include "objects/tty_pair.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* ---- One child ---- */

/* How a child is made. */
struct birth {
	pid_t own_pid;
	uint64_t shared; /* flags of clone3(2): what it has together with its maker */
	int exit_signal;
};

static struct error *try_clone(struct process *maker, const struct birth *birth)
{
	auto_batch struct batch *batch = process_batch(maker, 0);
	const struct clone_args args = {
		.flags = birth->shared | CLONE_PTRACE, /* it is stopped before it runs */
		.exit_signal = (uint64_t)birth->exit_signal,
		.set_tid = batch_bytes(batch, &birth->own_pid, sizeof(birth->own_pid)).value,
		.set_tid_size = 1,
	};

	batch_about(batch, "process", (uint32_t)birth->own_pid);
	batch_call(batch, clone3, batch_bytes(batch, &args, sizeof(args)), val(sizeof(args)));
	return process_run(maker, batch);
}

/* A PID whose holder has just ended becomes free soon. */
static struct error *clone_when_free(const struct build *build, struct process *maker, const struct birth *birth)
{
	for (int waited_ms = 0;; waited_ms++) {
		auto_error struct error *error = try_clone(maker, birth);

		if (!error || build->options.new_pids || error_errnum(error) != EEXIST)
			return take(error);
		if (waited_ms == NURSERY_DEAD_MS || !nursery_may_become_free(birth->own_pid))
			return nursery_name_holder(take(error), birth->own_pid);
		usleep(1000);
	}
}

/* The child that calls itself so, as this process sees it. */
static struct error *find_child(const struct process *parent, pid_t own_pid, pid_t *ret_pid)
{
	auto_free int *children = NULL;
	size_t count = 0;

	*ret_pid = own_pid;
	if (parent->own_pid == parent->pid)
		return NULL;
	int r = procfs_children(parent->pid, &children, &count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		pid_t own = 0;

		*ret_pid = children[i];
		if (procfs_own_tid(children[i], children[i], &own) == 0 && own == own_pid)
			return NULL;
	}
	return error_new(r < 0 ? -r : ESRCH, "child %d of process %d", own_pid, parent->pid);
}

static struct error *make_child(const struct build *build, struct process *maker, const struct process *parent,
                                const struct birth *birth, struct process **ret_process)
{
	pid_t pid;

	TRY(clone_when_free(build, maker, birth));
	TRY(find_child(parent, birth->own_pid, &pid));
	return process_adopt_child(birth->shared & CLONE_VM ? NULL : maker, pid, birth->own_pid, ret_process);
}

static struct error *make_task(struct build_task *task)
{
	struct build *build = task->build;
	const struct build_task *parent = build->tasks[build->tree.tasks[task->index].parent];
	struct birth birth = {.own_pid = task->model->pid, .exit_signal = SIGCHLD};
	int at = tree_maker(&build->tree, task->index, &birth.shared);

	if (at < 0 || !build->tasks[at]->process)
		return error_new(ENOTSUP,
		                 "process %d shares things with others than its parent and that one's children",
		                 birth.own_pid);
	const struct build_task *maker = build->tasks[at];
	bool has_own_memory = !(birth.shared & CLONE_VM);
	if (maker != parent) {
		birth.shared |= CLONE_PARENT;
		birth.exit_signal = 0; /* that of its maker */
	}
	TRY(make_child(build, maker->process, parent->process, &birth, &task->process), "make task %d", birth.own_pid);
	TRY(build_enter(task));
	/* Where it comes late its maker isn't bare any more. */
	return maker->memory && has_own_memory ? build_clear_memory(task) : NULL;
}

/* ---- Sessions ---- */

static struct error *begin_session(const struct build_task *task)
{
	if (getsid(task->process->pid) == task->process->pid) /* from an earlier look at the program */
		return NULL;
	auto_batch struct batch *batch = process_batch(task->process, 0);

	batch_call(batch, setsid);
	return process_run(task->process, batch);
}

/* Or was, and is dead. */
static bool is_there(const struct build_task *task)
{
	return task->process || task->has_ended;
}

static struct error *make_children(struct build *build, size_t parent, const pid_t *births, pid_t session)
{
	for (size_t i = parent + 1; i < build->tree.count; i++) {
		const struct tree_task *task = &build->tree.tasks[i];
		bool is_due = births[i] ? births[i] == session : session == build->tree.tasks[parent].session;

		if (task->parent == (int)parent && is_due && !is_there(build->tasks[i]))
			TRY(make_task(build->tasks[i]));
	}
	return NULL;
}

/* The root is in its session already. Another leader begins its own, and before that makes those who are in the old one. */
static struct error *lead_session(struct build *build, size_t leader, const pid_t *births)
{
	pid_t session = build->tree.tasks[leader].session;
	const struct build_task *task = build->tasks[leader];

	if (session != build->tree.tasks[leader].pid || !task->process)
		return NULL;
	if (leader > 0) {
		TRY(make_children(build, leader, births, births[leader]));
		TRY(begin_session(task), "session %d", session);
	}
	return tty_pair_begin_session(build->files, session, task->process, build->spare_base);
}

static struct error *make_all(struct build *build)
{
	auto_free pid_t *births = xalloc(build->tree.count * sizeof(*births));

	tree_births(&build->tree, births);
	TRY(tree_check_births(&build->tree));
	for (size_t i = 0; i < build->tree.count; i++) {
		TRY(lead_session(build, i, births));
		TRY(make_children(build, i, births, build->tree.tasks[i].session));
	}
	return NULL;
}

/* ---- Process groups ---- */

/* The root may be in another group than it was in: that of whoever restores it. */
static bool is_root_group(const struct build *build, pid_t group)
{
	return group == build->tree.tasks[0].group;
}

static struct error *root_group(const struct build *build, pid_t *ret_group)
{
	auto_batch struct batch *batch = process_batch(build_root(build)->process, 0);
	struct arg group = batch_call(batch, getpgid, val(0));

	TRY(process_run(build_root(build)->process, batch));
	*ret_group = (pid_t)batch_result(batch, group);
	return NULL;
}

static struct error *join_group(const struct build_task *task, pid_t group)
{
	auto_batch struct batch *batch = process_batch(task->process, 0);

	batch_call(batch, setpgid, val(0), val((uint64_t)group));
	return error_wrap(process_run(task->process, batch), "process %d, group %d", task->model->pid, group);
}

static struct error *lead_groups(const struct build *build)
{
	for (size_t i = 1; i < build->tree.count; i++) {
		const struct tree_task *task = &build->tree.tasks[i];

		if (task->group == task->pid && task->session != task->pid && build->tasks[i]->process)
			TRY(join_group(build->tasks[i], task->pid));
	}
	return NULL;
}

/*
 * A group whose leader has gone: the first of its members makes a child with its number, which leads it, and reaps it once
 * it has joined. That child's end is told to nobody.
 */
static struct error *make_leaderless(const struct build *build, const struct build_task *member, pid_t group)
{
	const struct birth birth = {.own_pid = group};
	auto_process struct process *leader = NULL;
	auto_batch struct batch *batch = process_batch(member->process, 0);

	TRY(make_child(build, member->process, member->process, &birth, &leader), "group %d", group);
	batch_call(batch, setpgid, val((uint64_t)group), val((uint64_t)group));
	batch_call(batch, setpgid, val(0), val((uint64_t)group));
	struct error *error = process_run(member->process, batch);
	error = error_join(error, process_end(leader));
	TRY(error, "group %d", group);
	auto_batch struct batch *reap = process_batch(member->process, 0);
	batch_call(reap, wait4, val((uint64_t)group), val(0), val(__WALL), val(0));
	return process_run(member->process, reap);
}

/* A member that came before may have made it. */
static struct error *join_or_make(const struct build *build, const struct build_task *task, pid_t group)
{
	auto_error struct error *error = join_group(task, group);

	if (!error || error_errnum(error) != EPERM || tree_find(&build->tree, group) >= 0)
		return take(error);
	return make_leaderless(build, task, group);
}

static struct error *join_groups(const struct build *build)
{
	pid_t root;

	TRY(root_group(build, &root));
	for (size_t i = 1; i < build->tree.count; i++) {
		const struct tree_task *task = &build->tree.tasks[i];

		if (task->group == task->pid || !build->tasks[i]->process)
			continue;
		if (is_root_group(build, task->group))
			TRY(join_group(build->tasks[i], root));
		else
			TRY(join_or_make(build, build->tasks[i], task->group));
	}
	return NULL;
}

/* ---- The dead ---- */

struct error *build_drain_sigchld(const struct build_task *parent)
{
	const uint64_t set = UINT64_C(1) << (SIGCHLD - 1);
	const struct timespec now = {0};
	auto_batch struct batch *batch = process_batch(parent->process, 0);

	batch_may_fail(batch, batch_call(batch, rt_sigtimedwait, batch_bytes(batch, &set, sizeof(set)), val(0),
	                                 batch_bytes(batch, &now, sizeof(now)), val(sizeof(set))));
	return process_run(parent->process, batch);
}

static struct error *end_zombie(struct build_task *task, int exit_code)
{
	struct process *process = task->process;
	const char *name = task->model->cores[0]->tc->comm;
	auto_batch struct batch *batch = process_batch(process, 0);

	batch_call(batch, prctl, val(PR_SET_NAME), batch_bytes(batch, name, strlen(name) + 1), val(0), val(0), val(0));
	TRY(process_run(process, batch));
	TRY(WIFSIGNALED(exit_code) ? process_die_of(process, WTERMSIG(exit_code))
	                           : process_exit(process, WEXITSTATUS(exit_code)));
	memory_free(take(task->memory));
	process_free(take(task->process));
	task->has_ended = true;
	return build_drain_sigchld(task->build->tasks[task->build->tree.tasks[task->index].parent]);
}

static struct error *end_zombies(struct build *build)
{
	for (size_t i = build->tree.count; i-- > 1;)
		if (build->tree.tasks[i].is_zombie && build->tasks[i]->process)
			TRY(end_zombie(build->tasks[i], build->tree.tasks[i].exit_code), "dead process %d",
			    build->tree.tasks[i].pid);
	return NULL;
}

/* ---- The stopped ---- */

/* SIGTSTP and its like stop only those who have no handler for it, by now. */
static int stop_signal_of(const TaskCoreEntry *tc)
{
	uint32_t signal = tc->has_stop_signo ? tc->stop_signo : SIGSTOP;

	/* Without those of SIGKILL and SIGSTOP, which have none. */
	size_t at = signal < SIGSTOP ? signal - 2 : signal - 3;
	bool is_default = (signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU) && at < tc->n_sigactions &&
	                  tc->sigactions[at]->sigaction == 0;
	return is_default ? (int)signal : SIGSTOP;
}

struct error *build_stop_child(const struct build_task *task)
{
	const struct build *build = task->build;
	const struct build_task *parent = build->tasks[build->tree.tasks[task->index].parent];
	auto_batch struct batch *batch = process_batch(parent->process, 0);

	TRY(process_stop_by(task->process, stop_signal_of(task->model->cores[0]->tc)));
	batch_call(batch, waitid, val(P_PID), val((uint64_t)task->model->pid), val(0), val(WSTOPPED | WNOHANG), val(0));
	TRY(process_run(parent->process, batch));
	return build_drain_sigchld(parent);
}

struct error *build_make_family(struct build *build)
{
	if (build->tree.count == 1)
		return NULL;
	TRY(make_all(build));
	TRY(lead_groups(build));
	TRY(join_groups(build));
	return end_zombies(build);
}
