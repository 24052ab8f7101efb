/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The threads of a process that is built: made with their old TIDs by the leader, parked in the stub like it, and then
 * given their state all at once, part by part. What takes privileges away comes last.
 */
#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/x86_64/core.h"
#include "checkpoint/interrupted_calls.h"
#include "checkpoint/restore/building.h"
#include "checkpoint/restore/nursery.h"
#include "objects/state.h"
#include "util/alloc.h"
#include "util/number_map.h"
#include "util/procfs.h"

enum {
	THREADS_PER_BATCH = 64, /* clone_args and a TID of each fit into a batch's data */
	TAKEN_MAX = 8,          /* PIDs that others have, of which we tell */
	CALLS_PER_PART = 100,   /* that a part of the state may append for a thread */
};

/* What the images say of a thread; there need be no task yet. */
static struct state_restore state_of(const struct build_task *task, size_t thread)
{
	return (struct state_restore){
		.thread = thread,
		.core = task->model->cores[thread],
		.cores = task->model->cores,
		.core_count = task->model->thread_count,
		.leader = task->model->extras[0],
		.extra = task->model->extras[thread],
		.store = task->model->store,
		.options = task->build->options.carry,
	};
}

/* ---- Beforehand ---- */

static struct error *preflight_part(const struct build_task *task, const struct state_ops *ops, size_t thread)
{
	const struct state_restore state = state_of(task, thread);

	if (ops->scope == STATE_PROCESS && thread != 0)
		return NULL;
	return error_wrap(ops->preflight(&state), "%s of thread %u", ops->name, task->model->pstree->threads[thread]);
}

/* Somebody else has it. One that is dead, and only there for its parent to see, is waited for later. */
static struct error *preflight_tid(pid_t tid)
{
	if (nursery_may_become_free(tid))
		return NULL;
	return nursery_name_holder(error_new(EEXIST, "PID %d", tid), tid);
}

static struct error *preflight_tids(const struct model *model)
{
	struct error *all = NULL;
	size_t taken = 0;

	for (size_t i = 0; i < model->thread_count && taken < TAKEN_MAX; i++) {
		struct error *error = preflight_tid((pid_t)model->pstree->threads[i]);

		taken += error != NULL;
		all = error_join(all, error);
	}
	return all;
}

/* Of each part the first thread that has a problem: the others seldom say anything new. */
struct error *build_threads_preflight(const struct build_task *task)
{
	struct error *all = task->build->options.new_pids ? NULL : preflight_tids(task->model);

	if (task->build->tree.tasks[task->index].is_zombie)
		return all;
	for (const struct state_ops *const *ops = all_state_ops; *ops; ops++) {
		struct error *first = NULL;

		for (size_t i = 0; (*ops)->preflight && !first && i < task->model->thread_count; i++)
			first = preflight_part(task, *ops, i);
		all = error_join(all, first);
	}
	struct arch_fpu_layout layout;
	struct error *first = NULL;
	arch_fpu_layout_read(&layout);
	for (size_t i = 0; !first && i < task->model->thread_count; i++)
		first = error_wrap(arch_core_preflight(&layout, task->model->cores[i]), "registers of thread %u",
		                   task->model->pstree->threads[i]);
	return error_join(all, first);
}

/* ---- Making them ---- */

/* Never runs where it is made: it is stopped before, and process_join() says where it goes. */
static void append_clone(struct batch *batch, pid_t tid)
{
	const struct clone_args args = {
		.flags =
			CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PTRACE,
		.set_tid = batch_bytes(batch, &tid, sizeof(tid)).value,
		.set_tid_size = 1,
	};

	batch_about(batch, "thread", (uint32_t)tid);
	batch_call(batch, clone3, batch_bytes(batch, &args, sizeof(args)), val(sizeof(args)));
}

/* How many of them, from the first on, it has by now. */
static size_t count_made(pid_t pid, const uint32_t *tids, size_t count)
{
	size_t made = 0;

	for (; made < count; made++) {
		auto_free char *own = xformat("/proc/%d/task/%u", pid, tids[made]);

		if (access(own, F_OK) < 0)
			return made;
	}
	return made;
}

static struct error *clone_some(struct build_task *task, const uint32_t *tids, size_t count)
{
	auto_batch struct batch *batch = process_batch(task->process, 0);

	for (size_t i = 0; i < count; i++)
		append_clone(batch, (pid_t)tids[i]);
	return process_run(task->process, batch);
}

/* The TID of a thread that has just ended, which is hardly seen any more, becomes free soon. */
static struct error *clone_when_free(struct build_task *task, const uint32_t *tids, size_t count)
{
	size_t made = 0;

	for (int waited_ms = 0;; waited_ms++) {
		auto_error struct error *error = clone_some(task, tids + made, count - made);

		if (!error || task->build->options.new_pids || error_errnum(error) != EEXIST)
			return take(error);
		made += count_made(task->process->pid, tids + made, count - made);
		if (made == count || waited_ms == NURSERY_DEAD_MS || !nursery_may_become_free((pid_t)tids[made]))
			return nursery_name_holder(take(error), (pid_t)tids[made < count ? made : count - 1]);
		usleep(1000);
	}
}

/* Those of the wanted threads that we don't have yet, by what they call themselves. */
static struct error *join_new(struct process *process, const uint32_t *own_tids, size_t count)
{
	auto_number_map struct number_map *known = number_map_new();
	auto_number_map struct number_map *wanted = number_map_new();
	auto_free int *tids = NULL;
	size_t tid_count = 0;
	uint64_t unused;

	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_gone)
			number_map_add(known, (uint64_t)process->threads[i].tid, 0, i);
	for (size_t i = 0; i < count; i++)
		number_map_add(wanted, own_tids[i], 0, i);
	int r = procfs_numbers(process->pid, "task", &tids, &tid_count);
	for (size_t i = 0; r == 0 && i < tid_count; i++) {
		pid_t own_tid = 0;

		if (number_map_find(known, (uint64_t)tids[i], 0, &unused))
			continue;
		r = procfs_own_tid(process->pid, tids[i], &own_tid);
		if (r == 0 && number_map_find(wanted, (uint64_t)own_tid, 0, &unused))
			TRY(process_join(process, tids[i], own_tid));
	}
	return r < 0 ? error_new(-r, "threads of process %d", process->pid) : NULL;
}

static struct error *join(struct process *process, const uint32_t *own_tids, size_t count)
{
	if (process->own_pid != process->pid)
		return join_new(process, own_tids, count);
	for (size_t i = 0; i < count; i++)
		TRY(process_join(process, (pid_t)own_tids[i], (pid_t)own_tids[i]));
	return NULL;
}

static struct error *make_some(struct build_task *task, const uint32_t *tids, size_t count)
{
	TRY(clone_when_free(task, tids, count));
	return join(task->process, tids, count);
}

static struct number_map *map_of_tids(const uint32_t *tids, size_t count)
{
	struct number_map *map = number_map_new();

	for (size_t i = 0; i < count; i++)
		number_map_add(map, tids[i], 0, i);
	return map;
}

static struct error *end_unwanted(struct process *process, const uint32_t *tids, size_t count)
{
	auto_number_map struct number_map *wanted = map_of_tids(tids, count);
	uint64_t unused;

	for (size_t i = 1; i < process->thread_count; i++)
		if (!process->threads[i].is_gone &&
		    !number_map_find(wanted, (uint64_t)process->threads[i].own_tid, 0, &unused))
			TRY(process_end_thread(process, i));
	return NULL;
}

/* Where each thread of ours is among all; who is gone isn't. */
static struct number_map *map_of_threads(const struct process *process)
{
	struct number_map *map = number_map_new();

	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_gone)
			number_map_add(map, (uint64_t)process->threads[i].own_tid, 0, i);
	return map;
}

struct error *build_follow_threads(struct build_task *task, const uint32_t *tids, size_t count)
{
	if (count > process_room(task->process))
		return error_hint(error_new(EAGAIN, "the program has started too many threads meanwhile"), "try again");
	TRY(end_unwanted(task->process, tids, count));
	auto_number_map struct number_map *there = map_of_threads(task->process);
	uint32_t missing[THREADS_PER_BATCH];
	size_t missing_count = 0;

	for (size_t i = 1; i < count; i++) {
		/* Twice the same: not from us. The kernel will say so. */
		uint64_t unused;

		if (!number_map_find(there, tids[i], 0, &unused))
			missing[missing_count++] = tids[i];
		if (missing_count < THREADS_PER_BATCH)
			continue;
		TRY(make_some(task, missing, missing_count));
		missing_count = 0;
	}
	return missing_count ? make_some(task, missing, missing_count) : NULL;
}

/* ---- Their state ---- */

struct parts {
	struct build_task *task;
	struct batch **batches; /* owned; one for each thread */
};

static void renew_batches(struct parts *parts)
{
	for (size_t i = 0; i < parts->task->process->thread_count; i++) {
		batch_free(parts->batches[i]);
		parts->batches[i] =
			parts->task->process->threads[i].is_gone ? NULL : process_batch(parts->task->process, i);
	}
}

static void parts_free(struct parts *parts)
{
	for (size_t i = 0; i < parts->task->process->thread_count; i++)
		batch_free(parts->batches[i]);
	free(parts->batches);
}

static struct error *run(struct parts *parts)
{
	TRY(process_run_all(parts->task->process, parts->batches));
	renew_batches(parts);
	return NULL;
}

static struct error *append_part(struct parts *parts, const struct state_ops *ops, size_t thread)
{
	const struct build_task *task = parts->task;
	struct batch *batch = parts->batches[thread];
	struct state_restore state = state_of(task, thread);

	state.process = task->process;
	state.pid = task->process->pid;
	state.tid = task->process->threads[thread].tid;
	state.own_pid = task->process->own_pid;
	state.own_tid = task->process->threads[thread].own_tid;
	if (ops->scope == STATE_PROCESS && thread != 0)
		return NULL;
	batch_about(batch, ops->name, (uint32_t)state.tid);
	return error_wrap(ops->restore(&state, batch), "%s of thread %d", ops->name, state.tid);
}

/* Parts of the leader and of the others are independent of each other; a part comes after those before it. */
static struct error *append_part_for_all(struct parts *parts, const struct state_ops *ops)
{
	for (size_t i = 0; i < parts->task->process->thread_count; i++)
		if (parts->batches[i] && batch_room(parts->batches[i]) < CALLS_PER_PART) {
			TRY(run(parts));
			break;
		}
	for (size_t i = 0; i < parts->task->process->thread_count; i++)
		if (parts->batches[i])
			TRY(append_part(parts, ops, i));
	return NULL;
}

static struct error *restore_state(struct build_task *task)
{
	__attribute__((cleanup(parts_free))) struct parts parts = {
		.task = task,
		.batches = xalloc(task->process->thread_count * sizeof(struct batch *)),
	};

	renew_batches(&parts);
	for (const struct state_ops *const *ops = all_state_ops; *ops; ops++)
		TRY(append_part_for_all(&parts, *ops));
	return run(&parts);
}

/* ---- Where they go on ---- */

static struct error *set_registers(struct build_task *task, size_t index)
{
	const CoreEntry *core = task->model->cores[index];
	struct thread *thread = &task->process->threads[index];

	TRY(arch_core_restore(&task->build->layout, core, &thread->registers, &thread->fpu), "thread %d", thread->tid);
	thread->call = (struct interrupted_call){.number = ARCH_CALL_NONE};
	thread->signal_mask = core->thread_core->has_blk_sigset ? core->thread_core->blk_sigset
	                      : core->tc                        ? core->tc->blk_sigset
	                                                        : 0;
	return NULL;
}

/* The model in the order of our threads, in which those that have ended have left holes. */
static void arrange_model(const struct build_task *task)
{
	struct model *model = task->model;
	size_t count = task->process->thread_count;
	auto_number_map struct number_map *threads = map_of_threads(task->process);
	CoreEntry **cores = xalloc(count * sizeof(void *));
	GodwitThreadEntry **extras = xalloc(count * sizeof(void *));

	for (size_t i = 0; i < model->thread_count; i++) {
		uint64_t at;

		if (!number_map_find(threads, model->pstree->threads[i], 0, &at) || cores[at])
			continue;
		cores[at] = take(model->cores[i]);
		extras[at] = take(model->extras[i]);
	}
	free(model->cores);
	free(model->extras);
	model->cores = cores;
	model->extras = extras;
	model->thread_count = count;
}

struct error *build_threads(struct build_task *task)
{
	TRY(build_follow_threads(task, task->model->pstree->threads, task->model->pstree->n_threads));
	arrange_model(task);
	TRY(restore_state(task));
	for (size_t i = 0; i < task->process->thread_count; i++)
		if (!task->process->threads[i].is_gone)
			TRY(set_registers(task, i));
	return interrupted_calls_begin(task->process, task->model->store);
}
