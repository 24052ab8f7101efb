/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/bpf.h"
#include "task/process.h"
#include "task/seccomp.h"
#include "task/stops.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/uapi.h"

enum { PAGE_BYTES = 4096, FILTERS_MAX = 32768 }; /* the kernel has room for fewer: seccomp(2), MAX_INSNS_PER_PATH */

void seccomp_filters_free(struct seccomp_filters *filters)
{
	for (size_t i = 0; i < filters->count; i++)
		free(filters->list[i].code);
	free(filters->list);
	*filters = (struct seccomp_filters){0};
}

enum seccomp_mode_of_thread seccomp_mode(pid_t pid, pid_t tid)
{
	auto_free char *path = xformat("task/%d/status", tid);
	auto_free char *status = NULL;
	uint64_t mode;

	if (procfs_read(pid, path, &status, NULL) < 0 || procfs_number(status, "Seccomp", 10, &mode) < 0)
		return SECCOMP_IS_OFF; /* it has ended, or the kernel has no seccomp */
	return mode == SECCOMP_IS_STRICT ? SECCOMP_IS_STRICT : mode ? SECCOMP_IS_FILTER : SECCOMP_IS_OFF;
}

bool seccomp_can_suspend(void)
{
	auto_free char *status = NULL;
	uint64_t effective;

	return procfs_read(getpid(), "status", &status, NULL) == 0 &&
	       procfs_number(status, "CapEff", 16, &effective) == 0 && (effective & (UINT64_C(1) << CAP_SYS_ADMIN)) &&
	       seccomp_mode(getpid(), getpid()) == SECCOMP_IS_OFF;
}

/* The number of instructions of filter number index, counted from the oldest; or a negative errno. */
static long get_filter(const struct thread *thread, size_t index, void *code)
{
	long count = ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_FILTER, thread->tid, index, code);

	return count < 0 ? negative_errno() : count;
}

struct error *seccomp_suspend(struct thread *thread, unsigned options)
{
	/* A filter may have come since it was looked at. */
	if (thread->seccomp == SECCOMP_IS_OFF && get_filter(thread, 0, NULL) > 0)
		thread->seccomp = SECCOMP_IS_FILTER;
	if (thread->seccomp == SECCOMP_IS_OFF)
		return NULL;
	return error_hint(THREAD_PTRACE(thread, PTRACE_SETOPTIONS, 0, options | PTRACE_O_SUSPEND_SECCOMP),
	                  "a program under seccomp(2) takes a godwit with CAP_SYS_ADMIN that isn't itself under it");
}

/* ---- What filters allow ---- */

/* The calls by which the stub waits and is left; those by which it comes and goes; and some that do nothing with descriptor -1. */
static const struct {
	int number;
	uint64_t arguments[6];
} probes[] = {
	{UAPI_SYS_FUTEX_WAITV, {0, 2}},
	{SYS_futex, {0, FUTEX_WAKE, INT32_MAX}},
	{SYS_rt_sigprocmask, {SIG_SETMASK, 0, 0, sizeof(uint64_t)}},
	{SYS_mmap, {0, PAGE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, UINT64_MAX}},
	{SYS_mmap, {0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, UINT64_MAX}},
	{SYS_munmap, {0, PAGE_BYTES}},
	{SYS_read, {UINT64_MAX}},
	{SYS_write, {UINT64_MAX}},
	{SYS_close, {UINT64_MAX}},
	{SYS_fsync, {UINT64_MAX}},
};
enum {
	PROBES = sizeof(probes) / sizeof(probes[0]),
	LEAVING_MASK = 0x7,
	MAPPING_MASK = 0x38,
	FIRST_HARMLESS = 6,
};

static unsigned find_allowed(const struct seccomp_filter_code *filter)
{
	unsigned allowed = 0;

	for (unsigned i = 0; i < PROBES; i++) {
		struct seccomp_data data = {.nr = probes[i].number, .arch = AUDIT_ARCH_X86_64};

		memcpy(data.args, probes[i].arguments, sizeof(data.args));
		uint32_t action = bpf_run(filter->code, filter->size_bytes / sizeof(struct sock_filter), &data) &
		                  SECCOMP_RET_ACTION_FULL;
		if (action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG)
			allowed |= 1U << i;
	}
	return allowed;
}

static bool may(const struct process *process, const struct thread *thread, unsigned mask)
{
	if (thread->seccomp == SECCOMP_IS_OFF)
		return true;
	return thread->seccomp == SECCOMP_IS_FILTER && thread->last_filter >= 0 &&
	       (process->filters.list[thread->last_filter].allowed & mask) == mask;
}

bool seccomp_may_park(const struct process *process, const struct thread *thread)
{
	return may(process, thread, LEAVING_MASK);
}

bool seccomp_may_map(const struct process *process, const struct thread *thread)
{
	return may(process, thread, MAPPING_MASK);
}

bool seccomp_harmless(const struct process *process, const struct thread *thread, long *ret_number)
{
	*ret_number = SYS_read; /* one of those of strict mode */
	if (thread->seccomp == SECCOMP_IS_STRICT)
		return true;
	for (unsigned i = FIRST_HARMLESS; i < PROBES && thread->last_filter >= 0; i++)
		if (process->filters.list[thread->last_filter].allowed & (1U << i)) {
			*ret_number = probes[i].number;
			return true;
		}
	return false;
}

/* ---- Reading the filters ---- */

/* The index of a filter behind another one; a new one is added, and code taken over. */
static int find_or_add(struct seccomp_filters *filters, struct seccomp_filter_code *filter)
{
	for (size_t i = 0; i < filters->count; i++) {
		const struct seccomp_filter_code *known = &filters->list[i];

		if (known->previous == filter->previous && known->flags == filter->flags &&
		    known->size_bytes == filter->size_bytes &&
		    memcmp(known->code, filter->code, filter->size_bytes) == 0)
			return (int)i;
	}
	filters->list = xrealloc(filters->list, (filters->count + 1) * sizeof(*filters->list));
	filters->list[filters->count] = *filter;
	filter->code = NULL;
	return (int)filters->count++;
}

/* uapi/linux/ptrace.h: struct seccomp_metadata, Linux 4.16. */
struct metadata {
	uint64_t index, flags;
};

static struct error *read_one(struct process *process, const struct thread *thread, size_t index, int previous,
                              int *ret_index)
{
	struct seccomp_filter_code filter = {.previous = previous};
	struct metadata metadata = {.index = index};

	long count = get_filter(thread, index, NULL);
	if (count < 0)
		return error_new((int)-count, "seccomp filter %zu of thread %d", index, thread->tid);
	filter.size_bytes = (size_t)count * sizeof(struct sock_filter);
	filter.code = xalloc(filter.size_bytes);
	if (get_filter(thread, index, filter.code) != count) {
		free(filter.code);
		return error_new(EPROTO, "seccomp filter %zu of thread %d", index, thread->tid);
	}
	if (ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_METADATA, thread->tid, sizeof(metadata), &metadata) > 0)
		filter.flags = (uint32_t)metadata.flags;
	filter.allowed = find_allowed(&filter) & (previous < 0 ? UINT32_MAX : process->filters.list[previous].allowed);
	*ret_index = find_or_add(&process->filters, &filter);
	free(filter.code);
	return NULL;
}

struct error *seccomp_read(struct process *process, struct thread *thread)
{
	thread->last_filter = -1;
	if (thread->seccomp != SECCOMP_IS_FILTER)
		return NULL;
	for (size_t i = 0; i < FILTERS_MAX; i++) {
		if (get_filter(thread, i, NULL) == -ENOENT) /* no more */
			return NULL;
		TRY(read_one(process, thread, i, thread->last_filter, &thread->last_filter));
	}
	return error_new(E2BIG, "seccomp filters of thread %d", thread->tid);
}
