/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Batches, run by threads that are in the stub or that are held: in one thread, in all of them at once, and with a
 * descriptor that is brought here before the batch goes on and closes it there.
 */
#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "task/held.h"
#include "task/stops.h"
#include "task/stub_pages_parts.h"
#include "util/alloc.h"

struct batch *process_batch(const struct process *process, size_t thread)
{
	assert(process->stub && thread < process->thread_count);
	uint64_t address = process->stub->session_address + stub_pages_control_offset(process->stub, thread);

	return stub_pages_has_small(process->stub, thread) ? batch_new_small(address, thread)
	                                                   : batch_new(address, thread);
}

static void start(struct process *process, const struct batch *batch)
{
	size_t index = batch_thread(batch);
	struct thread *thread = &process->threads[index];
	struct stub_place *place = &process->stub->places[index];

	batch_copy_out(batch, stub_pages_control(process->stub, index));
	if (thread->is_held)
		return;
	__atomic_store_n(&place->go, ++thread->batch_number, __ATOMIC_RELEASE);
	if (!thread->is_stopped) {
		stub_pages_wake(&place->go);
		return;
	}
	/* The first time: it comes in and finds the batch. If that fails it has been killed, which finish() finds. */
	thread->is_stopped = false;
	ptrace(PTRACE_CONT, thread->tid, NULL, NULL);
}

/* A parked thread can only be killed, or be stopped by SIGSTOP, which we let pass: the stop waits until we let go. */
static struct error *look_after(struct thread *thread)
{
	int status;
	pid_t tid = waitpid(thread->tid, &status, __WALL | WNOHANG);

	if (tid < 0)
		return error_new(errno, "waitpid(%d)", thread->tid);
	if (tid == 0)
		return NULL;
	if (!WIFSTOPPED(status)) {
		thread->is_gone = true;
		return error_new(ESRCH, "thread %d was killed", thread->tid);
	}
	if (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGBUS)
		return error_new(EFAULT, "thread %d: the stub crashed", thread->tid);
	if (status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP)
		thread->stop_signal = WSTOPSIG(status);
	return THREAD_PTRACE(thread, PTRACE_CONT, 0, 0);
}

enum { SPINS = 2000, WAIT_NS = 20 * 1000 * 1000 };

/* Most batches take a few µs: look for a while before sleeping. */
static struct error *wait_until_done(struct process *process, size_t index)
{
	struct thread *thread = &process->threads[index];
	uint32_t *done = &process->stub->places[index].done;

	for (int spin = 0;; spin++) {
		uint32_t seen = __atomic_load_n(done, __ATOMIC_ACQUIRE);
		const struct timespec timeout = {.tv_nsec = WAIT_NS};

		if (seen == thread->batch_number)
			return NULL;
		if (spin < SPINS) {
			__builtin_ia32_pause();
			continue;
		}
		syscall(SYS_futex, done, FUTEX_WAIT, seen, &timeout, NULL, 0);
		TRY(look_after(thread));
	}
}

bool stub_pages_is_done(const struct stub_pages *stub, const struct thread *thread)
{
	return __atomic_load_n(&stub->places[thread->index].done, __ATOMIC_ACQUIRE) == thread->batch_number;
}

struct error *process_begin(struct process *process, const struct batch *batch)
{
	TRY(batch_check_size(batch));
	start(process, batch);
	process->threads[batch_thread(batch)].has_begun = true;
	return NULL;
}

static struct error *finish(struct process *process, struct batch *batch)
{
	size_t index = batch_thread(batch);
	struct thread *thread = &process->threads[index];
	struct stub_control *control = stub_pages_control(process->stub, index);

	if (thread->is_held)
		TRY(held_run(process, thread));
	else
		TRY(wait_until_done(process, index));
	batch_take_results(batch, control);
	return batch_check(batch);
}

struct error *process_run(struct process *process, struct batch *batch)
{
	TRY(batch_check_size(batch));
	start(process, batch);
	return finish(process, batch);
}

struct error *process_exit(struct process *process, int status)
{
	size_t caller = process_caller(process);
	auto_batch struct batch *batch = process_batch(process, caller);

	if (process->threads[caller].is_held || process->threads[caller].is_stopped) {
		TRY(held_exit(process, status));
	} else {
		batch_call(batch, exit_group, val((uint64_t)status));
		start(process, batch);
	}
	return process_wait_gone(process);
}

struct error *process_run_all(struct process *process, struct batch *const *batches)
{
	struct error *first = NULL;

	for (size_t i = 0; i < process->thread_count; i++)
		if (batches[i])
			TRY(batch_check_size(batches[i]));
	for (size_t i = 0; i < process->thread_count; i++)
		if (batches[i])
			start(process, batches[i]);
	for (size_t i = 0; i < process->thread_count; i++) {
		auto_error struct error *error = batches[i] ? finish(process, batches[i]) : NULL;

		if (!first && error)
			first = error_wrap(take(error), "thread %d", process->threads[i].tid);
	}
	return first;
}

/* ---- Descriptors ---- */

/* uapi/linux/futex.h: struct futex_waitv */
struct wait_entry {
	uint64_t value, address;
	uint32_t flags, unused;
};

/* Until the batch, which waits behind the call that made fd, has come so far. */
static struct error *wait_for_result(struct process *process, const struct batch *batch, struct arg fd)
{
	size_t index = batch_thread(batch);
	const struct stub_place *place = &process->stub->places[index];
	const struct stub_control *control = stub_pages_control(process->stub, index);

	while (__atomic_load_n(&control->done, __ATOMIC_ACQUIRE) <= fd.value) {
		if (__atomic_load_n(&place->done, __ATOMIC_ACQUIRE) == process->threads[index].batch_number)
			return NULL; /* it failed before */
		TRY(look_after(&process->threads[index]));
	}
	return NULL;
}

static struct error *fetch_fd(const struct process *process, int64_t fd_there, int *ret_fd)
{
	int fd = (int)syscall(SYS_pidfd_getfd, process->pidfd, (int)fd_there, 0);

	if (fd < 0)
		return error_new(errno, "pidfd_getfd(%d, %d)", process->pid, (int)fd_there);
	*ret_fd = fd;
	return NULL;
}

/* In a thread that is held nobody closes it if we die. */
static struct error *make_fd_held(struct process *process, struct batch *batch, struct arg fd, int *ret_fd)
{
	TRY(process_run(process, batch));
	int64_t fd_there = batch_result(batch, fd);
	auto_batch struct batch *remove = process_batch(process, batch_thread(batch));
	struct error *error = fetch_fd(process, fd_there, ret_fd);

	batch_call(remove, close, val((uint64_t)fd_there));
	error = error_join(error, process_run(process, remove));
	return error;
}

struct error *process_make_fd(struct process *process, struct batch *batch, struct arg fd, int *ret_fd)
{
	size_t index = batch_thread(batch);

	if (process->threads[index].is_held)
		return make_fd_held(process, batch, fd, ret_fd);

	struct stub_pages *stub = process->stub;
	struct stub_control *control = stub_pages_control(stub, index);
	/* The word that lets it go on is one of the batch's own, so that it needs no room in the stub's pages. */
	const uint32_t zero = 0;
	struct arg word = batch_bytes(batch, &zero, sizeof(zero));
	const struct wait_entry waits[2] = {
		{.value = stub->session->owner, .address = stub->session_address, .flags = 2},
		{.value = 0, .address = word.value, .flags = 2},
	};
	struct arg wait = batch_call(batch, futex_waitv, batch_bytes(batch, waits, sizeof(waits)), val(2), val(0),
	                             val(0), val(0));

	batch_may_fail(batch, wait);
	batch_always(batch, batch_call(batch, close, fd));
	TRY(batch_check_size(batch));
	start(process, batch);
	TRY(wait_for_result(process, batch, fd));

	int fd_here = -1;
	struct error *error = fetch_fd(process, control->calls[fd.value].result, &fd_here);
	auto_fd int owned = fd_here;
	uint64_t offset = word.value - stub->session_address - stub_pages_control_offset(stub, index);
	uint32_t *go_on = (uint32_t *)(void *)((uint8_t *)control + offset);
	__atomic_store_n(go_on, 1, __ATOMIC_RELEASE);
	stub_pages_wake(go_on);
	auto_error struct error *batch_error = finish(process, batch);
	if (batch_error) {
		error_free(error);
		return take(batch_error);
	}
	TRY(error);
	*ret_fd = take(owned);
	return NULL;
}
