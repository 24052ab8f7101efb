/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Processes of ours that others of ours have made. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/remote.h"
#include "task/stops.h"
#include "task/stub_pages.h"
#include "util/alloc.h"

/* The parent's stub, which the child has as well: shared pages, in which it would be taken for its parent. */
static struct error *unmap_stub_of(const struct process *parent, struct process *process)
{
	struct procfs_range stub[STUB_RANGES];

	process_stub_ranges(parent, stub);
	for (size_t i = 0; i < STUB_RANGES; i++) {
		const struct remote_request request = {
			.name = "munmap",
			.number = SYS_munmap,
			.arguments = {stub[i].start, stub[i].end - stub[i].start},
		};
		int64_t result;

		TRY(remote_call(process, &process->threads[0], &request, &result));
		if (result < 0)
			return error_new((int)-result, "munmap(%#llx) in process %d", (unsigned long long)stub[i].start,
			                 process->pid);
	}
	return NULL;
}

struct error *process_adopt_child(const struct process *copied_from, pid_t pid, pid_t own_pid,
                                  struct process **ret_process)
{
	auto_process struct process *process = xalloc(sizeof(*process));
	enum stop stop;

	TRY(process_open(pid, process));
	process->is_ours = true;
	process->own_pid = own_pid;
	process_add_thread(process, pid)->own_tid = own_pid;
	TRY(thread_wait_interrupted(&process->threads[0], &stop));
	if (stop != STOP_INTERRUPTED)
		return error_new(ESRCH, "process %d", pid);
	TRY(thread_read(process, &process->threads[0]));
	TRY(remote_slot_find(process));
	if (copied_from)
		TRY(unmap_stub_of(copied_from, process));
	*ret_process = take(process);
	return NULL;
}

struct error *process_die_of(struct process *process, int signal)
{
	const struct rlimit no_core = {0};
	const uint64_t no_signals = 0;
	struct thread *thread = &process->threads[0];
	enum stop stop = STOP_SIGNAL;
	int delivered = 0;

	if (signal == SIGKILL)
		return process_end(process);
	TRY(process_stop_again(process));
	if (prlimit(process->pid, RLIMIT_CORE, &no_core, NULL) < 0)
		return error_new(errno, "prlimit(%d)", process->pid);
	TRY(THREAD_PTRACE(thread, PTRACE_SETSIGMASK, sizeof(no_signals), &no_signals));
	if (syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0) < 0)
		return error_new(errno, "signal %d to process %d", signal, process->pid);
	while (stop == STOP_SIGNAL) {
		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, delivered));
		TRY(thread_wait(thread, &stop, &delivered));
	}
	return stop == STOP_GONE ? NULL : error_new(EBUSY, "process %d doesn't die of signal %d", process->pid, signal);
}

/* As the kernel lets nothing else happen to a process that is stopped, no other signal may be met on the way. */
static struct error *go_into_stop(struct thread *thread, uint64_t mask)
{
	enum stop stop = STOP_SIGNAL;
	int delivered = 0;

	TRY(THREAD_PTRACE(thread, PTRACE_SETSIGMASK, sizeof(mask), &mask));
	thread->stop_signal = 0;
	while (stop != STOP_GONE && !thread->stop_signal) {
		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, delivered));
		delivered = 0;
		TRY(thread_wait(thread, &stop, &delivered));
	}
	return THREAD_PTRACE(thread, PTRACE_SETSIGMASK, sizeof(thread->signal_mask), &thread->signal_mask);
}

/* The first thread meets the signal; it begins the group stop, into which the others go when they are let go on. */
struct error *process_stop_by(struct process *process, int signal)
{
	if (syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0) < 0)
		return error_new(errno, "signal %d to process %d", signal, process->pid);
	for (size_t i = 0; i < process->thread_count; i++)
		if (!process->threads[i].is_gone)
			TRY(go_into_stop(&process->threads[i], ~(UINT64_C(1) << (signal - 1))));
	process->is_stopped_already = true;
	return NULL;
}
