/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#include "arch/x86_64/core.h"
#include "checkpoint/thread_state.h"
#include "util/alloc.h"
#include "util/parallel.h"
#include "util/procfs.h"

enum { PARTS_MAX = 48 };

/* What one thread's parts have said before the freeze. */
struct collected {
	pid_t tid;
	void *parts[PARTS_MAX]; /* owned */
};

struct thread_states {
	pid_t pid;
	const struct carry_options *options;
	struct collected *list; /* owned; ascending by tid */
	size_t count;
	size_t part_count;   /* in all_state_ops */
	struct asked *asked; /* owned; of the last save: it is freed when the process runs again */
	size_t asked_count;
	uint8_t *looks; /* owned; of the last save */
	struct arch_fpu_layout layout;
};

static bool concerns(const struct state_ops *ops, pid_t pid, pid_t tid)
{
	return ops->scope == STATE_THREAD || pid == tid;
}

static struct error *collect_thread(const struct thread_states *states, struct collected *collected)
{
	for (size_t i = 0; i < states->part_count; i++) {
		const struct state_ops *ops = all_state_ops[i];

		if (ops->collect && concerns(ops, states->pid, collected->tid))
			TRY(ops->collect(states->pid, collected->tid, &collected->parts[i]), "%s of thread %d",
			    ops->name, collected->tid);
	}
	return NULL;
}

struct error *thread_states_collect(pid_t pid, const struct carry_options *options, struct thread_states **ret_states)
{
	struct thread_states *states = xalloc(sizeof(*states));
	auto_free int *tids = NULL;
	size_t count;

	*ret_states = states; /* the caller frees it in any case */
	states->pid = pid;
	states->options = options;
	arch_fpu_layout_read(&states->layout);
	while (all_state_ops[states->part_count])
		states->part_count++;
	assert(states->part_count <= PARTS_MAX);
	int r = procfs_numbers(pid, "task", &tids, &count);
	if (r < 0)
		return error_new(-r, "threads of process %d", pid);
	states->list = xalloc(count * sizeof(*states->list));
	for (size_t i = 0; i < count; i++) {
		struct collected *collected = &states->list[states->count];

		collected->tid = tids[i];
		auto_error struct error *error = collect_thread(states, collected);
		if (!error)
			states->count++;
		else if (error_errnum(error) != ENOENT && error_errnum(error) != ESRCH) /* it may have ended */
			return take(error);
	}
	return NULL;
}

static void collected_free(struct collected *collected)
{
	for (size_t i = 0; i < PARTS_MAX; i++)
		free(collected->parts[i]);
}

static void forget_asked(struct thread_states *states);

void thread_states_free(struct thread_states *states)
{
	if (!states)
		return;
	forget_asked(states);
	free(states->looks);
	for (size_t i = 0; i < states->count; i++)
		collected_free(&states->list[i]);
	free(states->list);
	free(states);
}

void thread_states_check(const struct thread_states *states, struct problems *problems)
{
	for (size_t t = 0; t < states->count; t++) {
		pid_t tid = states->list[t].tid;

		for (size_t i = 0; i < states->part_count; i++) {
			const struct state_ops *ops = all_state_ops[i];

			if (ops->check && concerns(ops, states->pid, tid))
				problems_add(problems, error_wrap(ops->check(states->pid, tid, states->options),
				                                  "thread %d: %s", tid, ops->name));
		}
	}
}

/* ---- In the freeze ---- */

/* One thread while it is saved. */
struct asked {
	struct batch *batch;           /* owned */
	CoreEntry *core;               /* owned */
	GodwitThreadEntry *extra;      /* owned */
	void *parts[PARTS_MAX];        /* owned */
	const void *looked[PARTS_MAX]; /* in thread_states.looks */
	const struct collected *collected;
	struct collected late; /* of a thread that was born after the others were looked at */
};

static const struct collected *find_collected(const struct thread_states *states, pid_t tid)
{
	for (size_t low = 0, high = states->count; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (states->list[middle].tid == tid)
			return &states->list[middle];
		if (states->list[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* As the image names them. */
enum { TASK_ALIVE = 1, TASK_STOPPED = 3 };

/* The signal that the process is stopped by, or is about to be; 0: none. */
static int stop_signal_of(const struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (process->threads[i].stop_signal)
			return process->threads[i].stop_signal;
	for (size_t i = 0; i < process->pending.count; i++)
		if (process->pending.list[i].si_signo == SIGSTOP)
			return SIGSTOP;
	return 0;
}

static void save_task_state(const struct process *process, TaskCoreEntry *tc)
{
	int signal = stop_signal_of(process);

	tc->task_state = signal ? TASK_STOPPED : TASK_ALIVE;
	tc->has_stop_signo = signal != 0;
	tc->stop_signo = (uint32_t)signal;
	tc->blk_sigset = process->threads[0].signal_mask;
}

static CoreEntry *core_new(bool is_leader)
{
	CoreEntry *core = xalloc(sizeof(*core));

	core_entry__init(core);
	core->thread_core = xalloc(sizeof(*core->thread_core));
	thread_core_entry__init(core->thread_core);
	core->thread_core->creds = xalloc(sizeof(*core->thread_core->creds));
	creds_entry__init(core->thread_core->creds);
	if (is_leader) {
		core->tc = xalloc(sizeof(*core->tc));
		task_core_entry__init(core->tc);
	}
	return core;
}

static GodwitThreadEntry *extra_new(pid_t tid)
{
	GodwitThreadEntry *extra = xalloc(sizeof(*extra));

	godwit_thread_entry__init(extra);
	extra->tid = (uint32_t)tid;
	return extra;
}

static struct state_save state_of(const struct thread_states *states, struct process *process, size_t thread,
                                  struct image_store *store, const struct asked *asked)
{
	return (struct state_save){
		.process = process,
		.thread = &process->threads[thread],
		.store = store,
		.core = asked->core,
		.extra = asked->extra,
		.options = states->options,
	};
}

static struct error *ask(const struct thread_states *states, struct process *process, size_t thread,
                         struct image_store *store, struct asked *asked)
{
	pid_t tid = process->threads[thread].tid;

	asked->batch = process_batch(process, thread);
	asked->core = core_new(thread == 0);
	asked->extra = extra_new(process->threads[thread].own_tid);
	asked->collected = find_collected(states, tid);
	if (!asked->collected) {
		asked->late.tid = tid;
		TRY(collect_thread(states, &asked->late));
		asked->collected = &asked->late;
	}
	struct state_save state = state_of(states, process, thread, store, asked);
	for (size_t i = 0; i < states->part_count; i++) {
		const struct state_ops *ops = all_state_ops[i];

		batch_about(asked->batch, ops->name, (uint32_t)tid);
		if (ops->ask && concerns(ops, states->pid, tid))
			asked->parts[i] = ops->ask(&state, asked->batch);
	}
	return NULL;
}

/* ---- What files tell ---- */

struct looking {
	const struct thread_states *states;
	const struct process *process;
	int task_fd;             /* of /proc/PID/task */
	size_t look_bytes;       /* of a thread */
	uint8_t *looks;          /* of all threads */
	size_t parts[PARTS_MAX]; /* where in those of a thread the part's are */
};

static void look(void *context, size_t thread)
{
	const struct looking *looking = context;

	for (size_t i = 0; i < looking->states->part_count; i++) {
		const struct state_ops *ops = all_state_ops[i];
		pid_t tid = looking->process->threads[thread].tid;

		if (ops->look && concerns(ops, looking->states->pid, tid))
			ops->look(looking->task_fd, tid,
			          looking->looks + thread * looking->look_bytes + looking->parts[i]);
	}
}

/* Of all threads at once. What can't be read is zeros. */
static void look_at_all(struct thread_states *states, const struct process *process, struct asked *asked)
{
	enum { ALIGNED = 16 };
	auto_free char *path = xformat("/proc/%d/task", states->pid);
	auto_fd int task_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct looking looking = {.states = states, .process = process, .task_fd = task_fd};

	for (size_t i = 0; i < states->part_count; i++) {
		looking.parts[i] = looking.look_bytes;
		looking.look_bytes += (all_state_ops[i]->look_bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
	}
	free(states->looks);
	looking.looks = states->looks = xalloc(process->thread_count * looking.look_bytes);
	parallel_for(process->thread_count, look, &looking);
	for (size_t t = 0; t < process->thread_count; t++)
		for (size_t i = 0; i < states->part_count; i++)
			asked[t].looked[i] = looking.looks + t * looking.look_bytes + looking.parts[i];
}

static struct error *save(const struct thread_states *states, struct process *process, size_t thread,
                          struct image_store *store, struct asked *asked)
{
	struct state_save state = state_of(states, process, thread, store, asked);
	const struct thread *registers_of = &process->threads[thread];
	struct arch_registers registers = registers_of->registers;

	arch_registers_rewind_elsewhere(&registers, registers_of->call.number);
	TRY(arch_core_save(&states->layout, &registers, &registers_of->fpu, asked->core));
	asked->core->thread_core->has_blk_sigset = true;
	asked->core->thread_core->blk_sigset = registers_of->signal_mask;
	if (asked->core->tc)
		save_task_state(process, asked->core->tc);
	for (size_t i = 0; i < states->part_count; i++) {
		const struct state_ops *ops = all_state_ops[i];

		state.looked = ops->look ? asked->looked[i] : NULL;
		if (concerns(ops, states->pid, registers_of->tid))
			TRY(ops->save(&state, asked->collected->parts[i], asked->parts[i], asked->batch), "%s",
			    ops->name);
	}
	image_put(store, IMAGE_CORE, (uint64_t)registers_of->own_tid, &asked->core->base);
	image_put(store, IMAGE_GODWIT_THREADS, (uint64_t)process->own_pid, &asked->extra->base);
	return NULL;
}

static struct arg append_query(struct batch *batch, int option)
{
	return batch_call(batch, prctl, val((uint64_t)option), val(0), val(0), val(0), val(0));
}

static struct error *ask_and_save(struct thread_states *states, struct process *process, struct image_store *store,
                                  struct asked *asked, struct memory_answers *ret_answers)
{
	auto_free struct batch **batches = xalloc(process->thread_count * sizeof(*batches));

	for (size_t i = 0; i < process->thread_count; i++) {
		TRY(ask(states, process, i, store, &asked[i]), "thread %d", process->threads[i].tid);
		batches[i] = asked[i].batch;
	}
	batch_about(batches[0], NULL, 0);
	struct arg brk_address = batch_call(batches[0], brk, val(0));
	struct arg dumpable = append_query(batches[0], PR_GET_DUMPABLE);
	struct arg thp_disabled = append_query(batches[0], PR_GET_THP_DISABLE);
	TRY(process_run_all(process, batches));
	ret_answers->brk_address = (uint64_t)batch_result(batches[0], brk_address);
	ret_answers->dumpable = (int)batch_result(batches[0], dumpable);
	ret_answers->is_thp_disabled = batch_result(batches[0], thp_disabled) > 0;
	look_at_all(states, process, asked);
	for (size_t i = 0; i < process->thread_count; i++)
		TRY(save(states, process, i, store, &asked[i]), "thread %d", process->threads[i].tid);
	return NULL;
}

static void forget_asked(struct thread_states *states)
{
	for (size_t i = 0; i < states->asked_count; i++) {
		struct asked *asked = &states->asked[i];

		batch_free(asked->batch);
		if (asked->core)
			core_entry__free_unpacked(asked->core, NULL);
		if (asked->extra)
			godwit_thread_entry__free_unpacked(asked->extra, NULL);
		for (size_t part = 0; part < PARTS_MAX; part++)
			free(asked->parts[part]);
		collected_free(&asked->late);
	}
	free(states->asked);
	states->asked = NULL;
	states->asked_count = 0;
}

struct error *thread_states_save(struct thread_states *states, struct process *process, struct image_store *store,
                                 struct memory_answers *ret_answers)
{
	forget_asked(states);
	states->asked = xalloc(process->thread_count * sizeof(*states->asked));
	states->asked_count = process->thread_count;
	return ask_and_save(states, process, store, states->asked, ret_answers);
}
