/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stub/stub.h"
#include "task/held.h"
#include "task/remote.h"
#include "task/stops.h"
#include "task/stub_pages.h"

enum {
	SIGNALS_MAX = 1000, /* that may come in a row before we give up making a call */
	LOOKS = 200,        /* at the word that says that the call has been made, before others may run */
};

static struct error *find_argument(const struct process *process, const struct stub_control *control,
                                   const struct stub_call *call, unsigned n, uint64_t *ret_argument)
{
	int32_t loaded;

	*ret_argument = call->arg[n];
	if (call->results & (1U << n))
		*ret_argument = (uint64_t)control->calls[call->arg[n] % STUB_CALLS_MAX].result;
	if (!(call->loads & (1U << n)))
		return NULL;
	if (pread(process->mem_fd, &loaded, sizeof(loaded), (off_t)call->arg[n]) != sizeof(loaded))
		return error_new(errno, "memory of process %d at %#" PRIx64, process->pid, call->arg[n]);
	*ret_argument = (uint64_t)(int64_t)loaded;
	return NULL;
}

static struct error *send(const struct thread *thread, const struct held_place *held,
                          const struct remote_request *request)
{
	struct arch_registers call = thread->registers;
	struct arch_registers program = thread->registers;

	arch_registers_rewind(&program);
	arch_guarded_trampoline(held->code, &program, &held->guard);
	__atomic_store_n(&held->place->done, 0, __ATOMIC_RELEASE);
	arch_registers_syscall(&call, held->code_address, request->number, request->arguments);
	int r = arch_registers_set(thread->tid, &call);
	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : THREAD_PTRACE(thread, PTRACE_CONT, 0, 0);
}

/* Until the call has been made, or the thread has stopped by itself, for a signal. */
static void wait_until_made(const struct thread *thread, const struct held_place *held)
{
	for (int looks = 1;; looks++) {
		siginfo_t info = {0};

		if (__atomic_load_n(&held->place->done, __ATOMIC_ACQUIRE))
			return;
		if (looks % LOOKS) {
			__builtin_ia32_pause();
			continue;
		}
		if (waitid(P_PID, (id_t)thread->tid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 ||
		    info.si_pid)
			return;
		sched_yield();
	}
}

/* Stopped somewhere in the trampoline: has the call been made, and what did it return? */
static struct error *look(const struct thread *thread, const struct held_place *held, bool *ret_is_made,
                          int64_t *ret_result)
{
	struct arch_registers now;

	int r = arch_registers_get(thread->tid, &now);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	*ret_is_made = arch_instruction_pointer(&now) - held->code_address >= ARCH_GUARDED_MADE;
	*ret_result = arch_syscall_result(&now);
	return NULL;
}

/* *ret_is_made is false if a signal came before. */
static struct error *try_call(struct process *process, struct thread *thread, const struct remote_request *request,
                              bool *ret_is_made, int64_t *ret_result)
{
	const struct held_place held = stub_pages_held_place(process->stub, thread);
	enum stop stop;
	int signal = 0;

	TRY(send(thread, &held, request));
	wait_until_made(thread, &held);
	TRY(THREAD_PTRACE(thread, PTRACE_INTERRUPT, 0, 0));
	thread->is_stopped = false;
	thread->has_called = true;
	TRY(thread_wait(thread, &stop, &signal));
	if (stop != STOP_INTERRUPTED && stop != STOP_SIGNAL)
		return error_new(ESRCH, "thread %d", thread->tid);
	TRY(look(thread, &held, ret_is_made, ret_result));
	if (stop == STOP_SIGNAL)
		return remote_deliver(process, thread, signal);
	struct arch_registers program = thread->registers;
	arch_registers_rewind(&program);
	int r = arch_registers_set(thread->tid, &program);
	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : NULL;
}

static struct error *make_call(struct process *process, struct thread *thread, const struct remote_request *request,
                               int64_t *ret_result)
{
	bool is_made = false;

	for (int i = 0; !is_made; i++) {
		if (i == SIGNALS_MAX)
			return error_new(EBUSY, "call in thread %d: signals keep coming", thread->tid);
		TRY(try_call(process, thread, request, &is_made, ret_result));
	}
	return NULL;
}

struct error *held_run(struct process *process, struct thread *thread)
{
	struct stub_control *control = stub_pages_held_place(process->stub, thread).control;
	uint32_t count = control->count;

	if (count > STUB_CALLS_MAX)
		return error_new(EPROTO, "batch of %u calls", count);
	for (uint32_t i = 0; i < count; i++) {
		struct stub_call *call = &control->calls[i];
		struct remote_request request = {.name = "call", .number = call->number};

		for (unsigned n = 0; n < 6; n++)
			TRY(find_argument(process, control, call, n, &request.arguments[n]));
		TRY(make_call(process, thread, &request, &call->result));
		if (call->result < 0 && call->result >= -4095 && !(call->flags & STUB_MAY_FAIL))
			return NULL; /* the batch tells: batch_check() */
		control->done = i + 1;
	}
	return NULL;
}

/* By its last thread: the leader's end is seen only when all others have been reaped, of whom we are the tracer. */
struct error *held_exit(struct process *process, int status)
{
	struct thread *last = &process->threads[process->thread_count - 1];
	const struct remote_request request = {
		.name = "exit_group",
		.number = SYS_exit_group,
		.arguments = {(uint64_t)status},
	};
	int64_t result;

	TRY(remote_slot_find(process));
	auto_error struct error *error = remote_call(process, last, &request, &result);
	return error && !last->is_gone ? take(error) : NULL;
}
