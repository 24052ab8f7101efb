/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "task/stops.h"
#include "util/negative_errno.h"
#include "util/procfs.h"
#include "util/uapi.h"

enum {
	LOOK_AGAIN_NS = 5 * 1000 * 1000,
	LOOKS = 50, /* 0.5 us each, before sleeping */
};

struct error *thread_ptrace(const struct thread *thread, int request, const char *name, uint64_t address, uint64_t data)
{
	if (ptrace((enum __ptrace_request)request, thread->tid, address, data) < 0)
		return error_new(errno, "%s(%d)", name, thread->tid);
	return NULL;
}

struct error *thread_seize(pid_t tid, int options, bool *ret_is_gone)
{
	int r = ptrace(PTRACE_SEIZE, tid, NULL, options) < 0 ? negative_errno() : 0;

	/* EPERM: nobody has waited for it yet. Linux 6.18 */
	*ret_is_gone = r == -ESRCH || (r == -EPERM && procfs_is_dead(tid));
	if (r == 0 || *ret_is_gone)
		return NULL;
	return error_hint(error_new(-r, "PTRACE_SEIZE(%d)", tid),
	                  "a debugger may hold it, or CAP_SYS_PTRACE is missing");
}

/* As waitpid(2), for the first thread of a process; 0: it has ended, but can't be waited for yet. */
static pid_t wait_for_leader(pid_t tid, int *ret_status)
{
	const struct timespec patience = {.tv_nsec = LOOK_AGAIN_NS};
	bool is_dead = false;
	sigset_t child;
	sigset_t former;
	pid_t found;

	/* Each stop is told by SIGCHLD, too: ptrace(2). What is blocked waits, even if nobody has a handler for it. */
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &child, &former);
	for (;;) {
		found = waitpid(tid, ret_status, __WALL | WNOHANG);
		if (found != 0 || is_dead)
			break;
		if (sigtimedwait(&child, NULL, &patience) < 0 && errno == EAGAIN)
			is_dead = procfs_is_dead(tid);
	}
	int saved_errno = errno;
	pthread_sigmask(SIG_SETMASK, &former, NULL);
	errno = saved_errno;
	return found;
}

/*
 * The end of a process's first thread is told when all others are gone, and those that we trace are when we have waited
 * for them: ptrace(2), wait(2). So nobody may sleep until it comes.
 */
static pid_t wait_for(const struct thread *thread, int *ret_status)
{
	pid_t found = 0;

	/* Most stops come in a few us, and to be woken on a processor that has nothing to do takes longer than that. */
	for (int i = 0; i < LOOKS && found == 0; i++)
		found = waitpid(thread->tid, ret_status, __WALL | WNOHANG);
	if (found > 0)
		return found;
	do {
		found = thread->index == 0 ? wait_for_leader(thread->tid, ret_status)
		                           : waitpid(thread->tid, ret_status, __WALL);
	} while (found < 0 && errno == EINTR);
	return found;
}

struct error *thread_wait(struct thread *thread, enum stop *ret_stop, int *ret_signal)
{
	int status = 0;
	pid_t found = wait_for(thread, &status);

	if (found < 0)
		return error_new(errno, "waitpid(%d)", thread->tid);
	if (found == 0 || !WIFSTOPPED(status)) {
		thread->is_gone = true;
		*ret_stop = STOP_GONE;
		return NULL;
	}
	thread->is_stopped = true;
	int event = status >> 16;
	int signal = WSTOPSIG(status);

	if (event == PTRACE_EVENT_STOP) {
		thread->stop_signal = signal == SIGTRAP ? 0 : signal;
		*ret_stop = STOP_INTERRUPTED;
	} else if (event == PTRACE_EVENT_EXEC) {
		*ret_stop = STOP_EXEC;
	} else if (signal == (SIGTRAP | 0x80)) {
		*ret_stop = STOP_SYSCALL;
	} else {
		*ret_stop = STOP_SIGNAL;
		*ret_signal = signal;
	}
	return NULL;
}

struct error *thread_wait_interrupted(struct thread *thread, enum stop *ret_stop)
{
	for (;;) {
		int signal = 0;

		TRY(thread_wait(thread, ret_stop, &signal));
		if (*ret_stop != STOP_SIGNAL && *ret_stop != STOP_SYSCALL)
			return NULL;
		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, signal));
	}
}

/* struct rseq and struct rseq_cs of rseq(2), as far as they are needed. */
struct critical_section {
	uint32_t version, flags;
	uint64_t start_address, size_bytes, abort_address;
};
enum { RSEQ_CS_OFFSET = 8 };

/*
 * A thread inside a restartable sequence goes on at its abort handler, as after any interruption by the kernel: remote
 * calls, and restoring elsewhere, are interruptions of which the kernel wouldn't know.
 */
static struct error *abort_critical_section(const struct process *process, struct thread *thread)
{
	uint64_t ip = arch_instruction_pointer(&thread->registers);
	uint64_t word_address = thread->rseq.address + RSEQ_CS_OFFSET;
	const uint64_t none = 0;
	struct critical_section section;
	uint64_t address;

	if (pread(process->mem_fd, &address, sizeof(address), (off_t)word_address) != sizeof(address))
		return error_new(errno, "rseq area of thread %d at %#" PRIx64, thread->tid, word_address);
	if (!address)
		return NULL;
	if (pread(process->mem_fd, &section, sizeof(section), (off_t)address) != sizeof(section))
		return error_new(errno, "restartable sequence of thread %d at %#" PRIx64, thread->tid, address);
	if (ip - section.start_address >= section.size_bytes)
		return NULL;
	arch_set_instruction_pointer(&thread->registers, section.abort_address);
	/* The registers first, and both at once: if we died, the thread would go on in the middle of it otherwise. */
	int r = arch_registers_set(thread->tid, &thread->registers);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	if (pwrite(process->mem_fd, &none, sizeof(none), (off_t)word_address) != sizeof(none))
		return error_new(errno, "rseq area of thread %d at %#" PRIx64, thread->tid, word_address);
	return NULL;
}

static struct error *read_rseq(const struct process *process, struct thread *thread)
{
	struct __ptrace_rseq_configuration configuration;

	/* Linux 5.13. Where it is missing there is no glibc that uses rseq either. */
	if (ptrace((enum __ptrace_request)PTRACE_GET_RSEQ_CONFIGURATION, thread->tid, sizeof(configuration),
	           &configuration) < 0) {
		thread->rseq = (struct thread_rseq){0};
		return NULL;
	}
	thread->rseq = (struct thread_rseq){
		.address = configuration.rseq_abi_pointer,
		.size_bytes = configuration.rseq_abi_size,
		.signature = configuration.signature,
	};
	/* Restartable sequences make no system calls: rseq(2). */
	bool may_be_inside = thread->rseq.address && arch_call_outcome(&thread->registers) == 0;
	return may_be_inside ? abort_critical_section(process, thread) : NULL;
}

struct error *thread_read_pending(const struct thread *thread, bool of_process, struct pending_signals *pending)
{
	enum { AT_ONCE = 32 };
	struct __ptrace_peeksiginfo_args args = {.flags = of_process ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = AT_ONCE};
	siginfo_t some[AT_ONCE];

	pending->count = 0;
	for (long n = AT_ONCE; n == AT_ONCE;) {
		args.off = pending->count;
		n = ptrace((enum __ptrace_request)PTRACE_PEEKSIGINFO, thread->tid, &args, some);
		if (n < 0)
			return error_new(errno, "PTRACE_PEEKSIGINFO(%d)", thread->tid);
		if (n == 0)
			return NULL;
		pending->list = reallocarray(pending->list, pending->count + (size_t)n, sizeof(*some));
		if (!pending->list)
			abort();
		memcpy(pending->list + pending->count, some, (size_t)n * sizeof(*some));
		pending->count += (size_t)n;
	}
	return NULL;
}

struct error *thread_read(const struct process *process, struct thread *thread)
{
	int r = arch_registers_get(thread->tid, &thread->registers);

	/* At once: if we died, the program would see an EINTR that no signal caused. */
	if (r == 0 && arch_call_mend(&thread->registers))
		r = arch_registers_set(thread->tid, &thread->registers);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	thread->call = (struct interrupted_call){.number = arch_call_number(&thread->registers)};
	if (thread->call.number == SYS_restart_syscall)
		thread->call.number = ARCH_CALL_NONE;
	TRY(THREAD_PTRACE(thread, PTRACE_GETSIGMASK, sizeof(thread->signal_mask), &thread->signal_mask));
	TRY(read_rseq(process, thread));
	return NULL;
}

bool thread_is_in(const struct thread *thread, const struct procfs_range *range)
{
	uint64_t at = arch_instruction_pointer(&thread->registers);

	return at >= range->start && at < range->end;
}

struct error *thread_run_on(const struct process *process, struct thread *thread)
{
	enum { MOMENT_US = 50 };
	enum stop stop;

	thread->is_stopped = false;
	TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, 0));
	usleep(MOMENT_US);
	TRY(THREAD_PTRACE(thread, PTRACE_INTERRUPT, 0, 0));
	TRY(thread_wait_interrupted(thread, &stop));
	if (stop == STOP_EXEC)
		return error_new(EAGAIN, "thread %d has just executed another program", thread->tid);
	return stop == STOP_INTERRUPTED ? thread_read(process, thread) : NULL;
}

struct error *thread_read_rest(struct thread *thread)
{
	arch_fpu_free(&thread->fpu);
	int r = arch_fpu_get(thread->tid, &thread->fpu);

	if (r < 0)
		return error_new(-r, "FPU state of thread %d", thread->tid);
	return thread_read_pending(thread, false, &thread->pending);
}

struct error *thread_check(const struct thread *thread)
{
	struct uapi_ptrace_sud_config dispatch = {0};
	uint8_t ports[8192]; /* one bit for each I/O port */
	struct iovec vector = {.iov_base = ports, .iov_len = sizeof(ports)};

	/* Where these aren't known, no thread has them, or (dispatch, before Linux 6.4) nobody can tell. */
	if (ptrace((enum __ptrace_request)UAPI_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, thread->tid, sizeof(dispatch),
	           &dispatch) == 0 &&
	    dispatch.mode)
		return error_hint(error_new(ENOTSUP, "it has syscall user dispatch (PR_SET_SYSCALL_USER_DISPATCH)"),
		                  "programs that emulate another system can't be carried");
	if (ptrace(PTRACE_GETREGSET, thread->tid, NT_386_IOPERM, &vector) == 0 && vector.iov_len > 0)
		return error_new(ENOTSUP, "it may use I/O ports (ioperm(2))");
	return NULL;
}
