/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/calls.h"
#include "task/remote.h"
#include "task/stops.h"
#include "task/stub_pages.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/number_map.h"

enum {
	STOPPED_AT_ONCE = 64,
	SEIZE_OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC,
	BUILD_OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, /* threads made with CLONE_PTRACE inherit them */
	PASSES_MAX = 1000,                                         /* over a process that makes threads all the time */
};

static void thread_free(struct thread *thread)
{
	free(thread->pending.list);
	arch_fpu_free(&thread->fpu);
}

static struct thread *find_thread(const struct process *process, pid_t tid)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (process->threads[i].tid == tid)
			return &process->threads[i];
	return NULL;
}

struct thread *process_add_thread(struct process *process, pid_t tid)
{
	size_t count = process->thread_count + 1;
	struct thread *threads = reallocarray(process->threads, count, sizeof(*threads));

	if (!threads)
		abort();
	process->threads = threads;
	process->thread_count = count;
	threads[count - 1] =
		(struct thread){.tid = tid, .own_tid = tid, .index = count - 1, .call.number = ARCH_CALL_NONE};
	return &threads[count - 1];
}

struct thread *process_take_place(struct process *process, pid_t tid)
{
	for (size_t i = 1; i < process->thread_count; i++) {
		struct thread *thread = &process->threads[i];

		if (!thread->is_gone)
			continue;
		*thread = (struct thread){.tid = tid, .own_tid = tid, .index = i, .call.number = ARCH_CALL_NONE};
		return thread;
	}
	return process_add_thread(process, tid);
}

static struct error *seize_thread(struct process *process, pid_t tid)
{
	bool is_gone;

	TRY(thread_seize(tid, SEIZE_OPTIONS, &is_gone));
	if (is_gone)
		return NULL;
	struct thread *thread = process_add_thread(process, tid);
	thread->seccomp = seccomp_mode(process->pid, tid);
	if (process->own_pid == process->pid)
		return NULL;
	/* If it has ended meanwhile, its name is of no use any more. */
	int r = procfs_own_tid(process->pid, tid, &thread->own_tid);
	return r < 0 && r != -ENOENT && r != -ESRCH ? error_new(-r, "status of thread %d", tid) : NULL;
}

/* Seizes the threads that aren't yet. */
static struct error *seize_new_threads(struct process *process, size_t *ret_new)
{
	auto_number_map struct number_map *known = number_map_new();
	auto_free int *tids = NULL;
	size_t former = process->thread_count;
	size_t count = 0;
	uint64_t unused;

	int r = procfs_numbers(process->pid, "task", &tids, &count);
	if (r < 0 && r != -ENOENT) /* which is one that has ended */
		return error_new(-r, "threads of process %d", process->pid);
	for (size_t i = 0; i < former; i++)
		number_map_add(known, (uint64_t)process->threads[i].tid, 0, i);
	for (size_t i = 0; i < count; i++)
		if (!number_map_find(known, (uint64_t)tids[i], 0, &unused))
			TRY(seize_thread(process, tids[i]));
	*ret_new = process->thread_count - former;
	return NULL;
}

/* The memory of a process is that of its first thread, as long as that lives: proc_pid_mem(5). */
static struct error *memory_error(pid_t pid, int errnum)
{
	auto_free int *tids = NULL;
	size_t count;

	if (errnum == ESRCH && procfs_numbers(pid, "task", &tids, &count) >= 0 && count > 1)
		return error_hint(error_new(ENOTSUP, "process %d: its first thread has ended, others run on", pid),
		                  "it can be carried if its main function waits for the other threads");
	return error_new(errnum, "open(/proc/%d/mem)", pid);
}

struct error *process_open(pid_t pid, struct process *process)
{
	auto_free char *path = xformat("/proc/%d/mem", pid);

	process->pid = pid;
	process->own_pid = pid;
	process->mem_fd = process->maps_fd = -1;
	process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (process->pidfd < 0)
		return error_new(errno, "process %d", pid);
	process->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (process->mem_fd < 0)
		return memory_error(pid, errno);
	return NULL;
}

/* What is opened is the memory of then. An execve(2) behind the seizing shows; one before it has left this behind. */
static struct error *open_memory(struct process *process)
{
	auto_free char *mem = xformat("/proc/%d/mem", process->pid);
	auto_free char *maps = xformat("/proc/%d/maps", process->pid);

	close(process->mem_fd);
	process->mem_fd = open(mem, O_RDWR | O_CLOEXEC);
	if (process->mem_fd < 0)
		return memory_error(process->pid, errno);
	process->maps_fd = open(maps, O_RDONLY | O_CLOEXEC); /* without it the vDSO is looked for once more */
	if (procfs_find_area(process->pid, "[vdso]", &process->vdso) < 0)
		process->vdso = (struct procfs_range){0};
	return NULL;
}

struct error *process_seize(pid_t pid, struct process **ret_process)
{
	auto_process struct process *process = xalloc(sizeof(*process));
	size_t new;

	TRY(process_open(pid, process));
	/* Where nobody tells (Linux before 4.1), it has no other one. */
	(void)procfs_own_tid(pid, pid, &process->own_pid);
	/* First, whatever the others' numbers: they go on at 300 behind the largest. */
	TRY(seize_thread(process, pid));
	TRY(open_memory(process));
	TRY(seize_new_threads(process, &new));
	if (process->thread_count == 0 || process->threads[0].tid != pid)
		return error_new(ESRCH, "process %d", pid);
	*ret_process = take(process);
	return NULL;
}

struct error *process_adopt(pid_t pid, pid_t own_pid, struct process **ret_process)
{
	auto_process struct process *process = xalloc(sizeof(*process));

	TRY(process_open(pid, process));
	process->is_ours = true;
	/* It will get the program's filters while it is still being built; without the privilege it can't get any. */
	int r = (int)ptrace(PTRACE_SEIZE, pid, NULL, BUILD_OPTIONS | PTRACE_O_SUSPEND_SECCOMP);
	if (r < 0 && errno == EPERM)
		r = (int)ptrace(PTRACE_SEIZE, pid, NULL, BUILD_OPTIONS);
	if (r < 0)
		return error_new(errno, "PTRACE_SEIZE(%d)", pid);
	process->own_pid = own_pid;
	process_add_thread(process, pid)->own_tid = own_pid;
	*ret_process = take(process);
	return NULL;
}

/* ---- Stopping ---- */

static struct error *interrupt_some(const struct process *process, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		const struct thread *thread = &process->threads[i];

		if (thread->is_stopped || thread->is_gone)
			continue;
		if (ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) < 0 && errno != ESRCH)
			return error_new(errno, "PTRACE_INTERRUPT(%d)", thread->tid);
	}
	return NULL;
}

static struct error *interrupt_all(const struct process *process)
{
	return interrupt_some(process, 0, process->thread_count);
}

static struct error *wait_for_one(const struct process *process, struct thread *thread)
{
	enum stop stop;

	TRY(thread_wait_interrupted(thread, &stop));
	if (stop == STOP_EXEC)
		return error_hint(error_new(EAGAIN, "process %d has just executed another program", process->pid),
		                  "try again");
	return NULL;
}

static struct error *wait_for_all(struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_stopped && !process->threads[i].is_gone)
			TRY(wait_for_one(process, &process->threads[i]));
	return NULL;
}

static void forget_gone_threads(struct process *process)
{
	size_t kept = 0;

	for (size_t i = 0; i < process->thread_count; i++) {
		if (process->threads[i].is_gone) {
			thread_free(&process->threads[i]);
			continue;
		}
		process->threads[kept] = process->threads[i];
		process->threads[kept].index = kept;
		kept++;
	}
	process->thread_count = kept;
}

struct error *process_stop_again(struct process *process)
{
	TRY(interrupt_all(process));
	return wait_for_all(process);
}

/*
 * With another kernel, the code of the vDSO in which a thread has been stopped has no data any more: memory/vdso.h. Those
 * functions that read a counter then ask the kernel; for the others (time(2), coarse clocks), which are short, the thread
 * runs on until it is outside. Not by single steps: a thread whose tracer dies between two of them is killed. Who has been
 * stopped by a signal (SIGSTOP) doesn't run.
 */
static struct error *leave_vdso(const struct process *process, struct thread *thread)
{
	enum { TRIES = 20 };

	for (int tries = 0; tries < TRIES && !thread->stop_signal && !thread->is_gone; tries++) {
		if (!thread_is_in(thread, &process->vdso))
			return NULL;
		TRY(thread_run_on(process, thread));
	}
	return NULL;
}

static struct error *wait_and_read(struct process *process, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		struct thread *thread = &process->threads[i];

		if (thread->is_stopped || thread->is_gone)
			continue;
		TRY(wait_for_one(process, thread));
		if (thread->is_gone)
			continue;
		TRY(thread_read(process, thread));
		TRY(leave_vdso(process, thread));
	}
	return NULL;
}

/* Some at a time, each read as soon as it has stopped: if we die before, a call that the stop has ended is lost. */
static struct error *stop_and_read(struct process *process)
{
	for (size_t first = 0; first < process->thread_count; first += STOPPED_AT_ONCE) {
		size_t end = first + STOPPED_AT_ONCE;

		if (end > process->thread_count)
			end = process->thread_count;
		TRY(interrupt_some(process, first, end));
		TRY(wait_and_read(process, first, end));
	}
	return NULL;
}

/* What a thread may do while it is held, and what it was doing. */
static struct error *settle(struct process *process, struct thread *thread)
{
	if (!process->is_ours)
		TRY(seccomp_suspend(thread, SEIZE_OPTIONS), "thread %d", thread->tid);
	TRY(seccomp_read(process, thread));
	thread->is_held = !seccomp_may_park(process, thread);
	return process->calls ? calls_settle(process->calls, process, thread) : NULL;
}

static struct error *settle_all(struct process *process)
{
	seccomp_filters_free(&process->filters);
	for (size_t i = 0; i < process->thread_count; i++)
		TRY(settle(process, &process->threads[i]));
	return NULL;
}

void process_look(struct process *process)
{
	if (process->calls)
		calls_look(process->calls, process);
}

struct error *process_stop(struct process *process)
{
	size_t new = 1;

	process->stop_began_ns = clock_now_ns();

	/* New threads may come as long as one is running: until a pass over a stopped process finds none. */
	for (int pass = 0; new; pass++) {
		if (pass == PASSES_MAX)
			return error_new(EAGAIN, "process %d makes threads faster than they can be stopped",
			                 process->pid);
		TRY(stop_and_read(process));
		if (process->is_ours)
			break;
		TRY(seize_new_threads(process, &new));
	}
	forget_gone_threads(process);
	if (process->thread_count == 0)
		return error_new(ESRCH, "process %d has ended", process->pid);
	if (process->threads[0].tid != process->pid)
		return error_new(ENOTSUP, "process %d: its first thread has ended, others run on", process->pid);
	return settle_all(process);
}

struct error *process_read_rest(struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++) {
		struct thread *thread = &process->threads[i];

		TRY(thread_read_rest(thread));
		TRY(thread_check(thread), "thread %d", thread->tid);
	}
	return thread_read_pending(&process->threads[0], true, &process->pending);
}

/* ---- Letting go ---- */

/* A thread in a ptrace stop goes on where it was: its registers are as the kernel has them, or set by remote_call(). */
static struct error *detach(struct thread *thread)
{
	if (thread->is_gone)
		return NULL;
	thread->is_stopped = false;
	thread->is_gone = true; /* as far as we are concerned */
	if (ptrace(PTRACE_DETACH, thread->tid, NULL, NULL) < 0 && errno != ESRCH)
		return error_new(errno, "PTRACE_DETACH(%d)", thread->tid);
	return NULL;
}

static struct error *detach_all(struct process *process)
{
	struct error *first = NULL;

	for (size_t i = 0; i < process->thread_count; i++) {
		first = error_join(first, detach(&process->threads[i]));
	}
	return first;
}

bool process_is_in_group_stop(const struct process *process)
{
	for (size_t i = 0; i < process->thread_count; i++)
		if (process->threads[i].stop_signal)
			return true;
	return false;
}

static struct error *wait_for_end(struct thread *thread)
{
	while (!thread->is_gone) {
		enum stop stop;
		int signal;

		TRY(thread_wait(thread, &stop, &signal));
	}
	return NULL;
}

/*
 * Takes a stopped thread out of the stub from outside, without running any of its own code. The mask first: if we die before
 * the registers are set, the thread finds its own way out, while nothing would ever set the mask.
 */
static struct error *set_back(struct thread *thread)
{
	if (thread->is_gone)
		return NULL;
	auto_error struct error *error =
		THREAD_PTRACE(thread, PTRACE_SETSIGMASK, sizeof(thread->signal_mask), &thread->signal_mask);
	if (error && error_errnum(error) == ESRCH) /* it was killed in its stop */
		return wait_for_end(thread);
	int r = error ? 0 : arch_registers_set(thread->tid, &thread->registers);
	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : take(error);
}

/*
 * Into the stop of PTRACE_INTERRUPT, which is where the kernel looks at a call that was interrupted, and at signals. On the
 * way the thread executes nothing of its own.
 */
static struct error *stop_for_call(struct thread *thread)
{
	enum stop stop;

	if (thread->is_gone)
		return NULL;
	TRY(THREAD_PTRACE(thread, PTRACE_INTERRUPT, 0, 0));
	thread->is_stopped = false;
	thread->has_called = false;
	TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, 0));
	return thread_wait_interrupted(thread, &stop);
}

/*
 * Not by the way out that the stub has, which is for our death: a signal that has come meanwhile has to find the thread
 * in its call, to end it with EINTR. Its pages go last: if we die before, those that are still in them need them.
 */
static struct error *take_out(struct process *process)
{
	struct thread *last = &process->threads[process_caller(process)];
	struct error *error = NULL;

	TRY(process_stop_again(process));
	for (size_t i = 0; i < process->thread_count; i++) {
		struct thread *thread = &process->threads[i];

		/* In a process of ours, signals that wait are not for the call that unmaps the stub. */
		if (thread == last && process->is_ours)
			continue;
		stub_pages_set_left(process->stub, thread);
		if (thread->has_called)
			error = error_join(error, stop_for_call(thread));
		error = error_join(error, set_back(thread));
	}
	TRY(error);
	if (last->is_gone)
		return NULL;
	TRY(stub_pages_unmap(process, last));
	TRY(stop_for_call(last));
	return set_back(last);
}

static struct error *let_go(struct process *process)
{
	struct error *error =
		process->stub ? error_wrap(take_out(process), "let process %d go on", process->pid) : NULL;

	remote_slot_clear(process);
	return error_join(error, detach_all(process));
}

struct error *process_thaw(struct process *process)
{
	return process_is_in_group_stop(process) ? process_leave_stopped(process) : let_go(process);
}

struct error *process_leave_stopped(struct process *process)
{
	/* A group stop outlives us; ptrace stops don't. */
	if (!process_is_in_group_stop(process) && syscall(SYS_pidfd_send_signal, process->pidfd, SIGSTOP, NULL, 0) < 0)
		return error_new(errno, "stop process %d", process->pid);
	return let_go(process);
}

struct error *process_end(struct process *process)
{
	if (syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0) < 0)
		return error_new(errno, "kill process %d", process->pid);
	return process_wait_gone(process);
}

/* Threads of ours that were made but not yet parked: their maker's end is told only when theirs has been seen. */
static void add_unknown(struct process *process)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	if (procfs_numbers(process->pid, "task", &tids, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (!find_thread(process, tids[i]))
			process_add_thread(process, tids[i]);
}

struct error *process_wait_gone(struct process *process)
{
	if (process->is_ours)
		add_unknown(process);
	/* The tracer takes note first, of the leader last: only then the parent is told. */
	for (size_t i = process->thread_count; i-- > 0;)
		TRY(wait_for_end(&process->threads[i]));
	return NULL;
}

/* ---- Building ---- */

struct error *process_end_thread(struct process *process, size_t index)
{
	auto_batch struct batch *batch = process_batch(process, index);

	batch_call(batch, exit, val(0));
	TRY(process_begin(process, batch));
	return wait_for_end(&process->threads[index]);
}

/*
 * Once the thread waits in the call that process_begin() has begun, being stopped leaves the restart block behind. If the
 * call has returned, what it waits for is there already: then it is simply made again.
 */
static struct error *settle_begun_call(struct process *process, struct thread *thread)
{
	for (;;) {
		struct arch_registers now;
		enum stop stop;

		int r = arch_registers_get(thread->tid, &now);
		if (r < 0)
			return error_new(-r, "registers of thread %d", thread->tid);
		if (arch_call_number(&now) == thread->call.number && arch_call_outcome(&now) == ARCH_CALL_FROM_BLOCK)
			return NULL;
		if (stub_pages_is_done(process->stub, thread)) {
			arch_call_forget_block(&thread->registers);
			return NULL;
		}
		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, 0));
		usleep(50);
		TRY(THREAD_PTRACE(thread, PTRACE_INTERRUPT, 0, 0));
		TRY(thread_wait_interrupted(thread, &stop));
		if (stop != STOP_INTERRUPTED)
			return error_new(ESRCH, "thread %d", thread->tid);
	}
}

static struct error *set_up(struct process *process, struct thread *thread)
{
	if (thread->has_begun)
		TRY(settle_begun_call(process, thread));
	if (!thread->fpu.bytes)
		return NULL;
	int r = arch_fpu_set(thread->tid, &thread->fpu);
	return r < 0 ? error_new(-r, "FPU state of thread %d", thread->tid) : NULL;
}

struct error *process_complete(struct process *process)
{
	TRY(process_stop_again(process));
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_gone)
			TRY(set_up(process, &process->threads[i]));
	return take_out(process);
}

struct error *process_outlive(struct process *process, bool is_left_stopped)
{
	process->stays_stopped = is_left_stopped || process->is_stopped_already;
	/* It waits behind the ptrace stops, and a group stop comes of it when we die. */
	if (!process->is_stopped_already && syscall(SYS_pidfd_send_signal, process->pidfd, SIGSTOP, NULL, 0) < 0)
		return error_new(errno, "stop process %d", process->pid);
	/* All of them before anyone runs: the death of one that is still bound to ours would end the whole process. */
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_gone)
			TRY(THREAD_PTRACE(&process->threads[i], PTRACE_SETOPTIONS, 0, 0));
	return NULL;
}

static struct error *does_stop_wait(struct process *process, const struct thread *thread, bool *ret_waits)
{
	*ret_waits = false;
	TRY(thread_read_pending(thread, true, &process->pending));
	for (size_t i = 0; i < process->pending.count; i++)
		*ret_waits |= process->pending.list[i].si_signo == SIGSTOP;
	return NULL;
}

/*
 * One thread meets the signal that process_outlive() has sent, and doesn't get it; on the way it executes nothing of its own,
 * but the program's other signals come as they would. SIGCONT would take it back, too, but be seen by a program that waits
 * for that.
 */
struct error *process_withdraw_stop(struct process *process)
{
	struct thread *thread = process->threads;
	int signal = 0;
	bool waits;

	if (process->stays_stopped)
		return NULL;
	while (thread->is_gone) /* one lives: the process does */
		thread++;
	TRY(does_stop_wait(process, thread, &waits));
	while (waits) {
		enum stop stop;

		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, signal));
		signal = 0;
		TRY(thread_wait(thread, &stop, &signal));
		waits = stop != STOP_GONE && signal != SIGSTOP;
	}
	return NULL;
}

struct error *process_release(struct process *process)
{
	struct error *error = process_withdraw_stop(process);

	return error_join(error, detach_all(process));
}

void process_free(struct process *process)
{
	if (!process)
		return;
	stub_pages_free(process->stub);
	stub_pages_free(process->former_stub);
	for (size_t i = 0; i < process->thread_count; i++)
		thread_free(&process->threads[i]);
	seccomp_filters_free(&process->filters);
	free(process->threads);
	free(process->pending.list);
	if (process->mem_fd >= 0)
		close(process->mem_fd);
	if (process->maps_fd >= 0)
		close(process->maps_fd);
	if (process->pidfd >= 0)
		close(process->pidfd);
	free(process);
}
