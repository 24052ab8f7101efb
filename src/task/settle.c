/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "task/settle.h"
#include "task/stops.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* Calls in which a device may write into the caller's memory. */
static bool may_write(long number)
{
	switch (number) {
	case SYS_read:
	case SYS_readv:
	case SYS_pread64:
	case SYS_preadv:
	case SYS_preadv2:
	case SYS_ioctl:
		return true;
	default:
		return false;
	}
}

/* /proc/PID/task/TID/syscall is "running", or begins with the number of the call in which the thread waits (-1: none):
 * proc_pid_syscall(5). */
static bool waits_elsewhere(pid_t pid, pid_t tid)
{
	auto_free char *name = xformat("task/%d/syscall", tid);
	auto_free char *text = NULL;
	char *end;

	if (procfs_read(pid, name, &text, NULL) < 0)
		return false;
	long number = strtol(text, &end, 10);
	return end != text && !may_write(number);
}

/* As if the stop had never been: a call that it ended with EINTR is made again. */
static struct error *set_right(const struct thread *thread)
{
	struct arch_registers registers;
	int r = arch_registers_get(thread->tid, &registers);

	if (r == 0 && arch_call_mend(&registers))
		r = arch_registers_set(thread->tid, &registers);
	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : NULL;
}

static struct error *stop_once(pid_t tid)
{
	struct thread thread = {.tid = tid};
	enum stop stop;
	bool is_gone;

	TRY(thread_seize(tid, PTRACE_O_TRACESYSGOOD, &is_gone));
	if (is_gone) /* and its calls with it */
		return NULL;
	/* If it fails, the thread is about to end, which the wait tells. */
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	TRY(thread_wait_interrupted(&thread, &stop));
	if (stop == STOP_GONE)
		return NULL;
	struct error *error = stop == STOP_INTERRUPTED ? set_right(&thread) : NULL;
	return error_join(error, THREAD_PTRACE(&thread, PTRACE_DETACH, 0, 0));
}

struct error *process_settle(pid_t pid)
{
	auto_free int *tids = NULL;
	size_t count;
	int r = procfs_numbers(pid, "task", &tids, &count);

	if (r < 0)
		return error_new(-r, "threads of process %d", pid);
	for (size_t i = 0; i < count; i++)
		if (!waits_elsewhere(pid, tids[i]))
			TRY(stop_once(tids[i]));
	return NULL;
}
