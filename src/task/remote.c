/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "task/remote.h"
#include "task/stops.h"
#include "util/procfs.h"

enum {
	VDSO_BYTES_MAX = 65536,
	ROOM_BYTES_MAX = 64,
	SIGNALS_MAX = 1000, /* that may come in a row before we give up making a call */
};

static bool is_trampoline(const uint8_t *room)
{
	static const uint8_t start[] = {0x0f, 0x05, 0x48, 0xb8};

	return memcmp(room, start, sizeof(start)) == 0;
}

static bool is_free_room(const uint8_t *room)
{
	static const uint8_t zeros[ARCH_TRAMPOLINE_BYTES];

	return memcmp(room, zeros, sizeof(zeros)) == 0 || is_trampoline(room);
}

bool remote_slot_is_left(pid_t pid, int mem_fd)
{
	uint8_t room[ARCH_TRAMPOLINE_BYTES];
	struct procfs_range vdso;

	return procfs_find_area(pid, "[vdso]", &vdso) == 0 &&
	       pread(mem_fd, room, sizeof(room), (off_t)(vdso.end - sizeof(room))) == sizeof(room) &&
	       is_trampoline(room);
}

/* A godwit was killed while it made a call: the thread may be on its way through the trampoline just now. */
static struct error *wait_until_outside(struct process *process, struct thread *thread, uint64_t slot_address)
{
	const struct procfs_range slot = {.start = slot_address, .end = slot_address + ARCH_TRAMPOLINE_BYTES};

	while (thread_is_in(thread, &slot)) {
		TRY(thread_run_on(process, thread));
		if (thread->is_gone)
			return error_new(ESRCH, "thread %d", thread->tid);
	}
	return NULL;
}

/* Most often where it was when the process was seized, but that was before it stood still. */
static int find_vdso(const struct process *process, struct procfs_range *ret_vdso)
{
	if (process->maps_fd < 0 || !procfs_is_area(process->maps_fd, "[vdso]", &process->vdso))
		return procfs_find_area(process->pid, "[vdso]", ret_vdso);
	*ret_vdso = process->vdso;
	return 0;
}

struct error *remote_slot_find(struct process *process)
{
	uint8_t room[ARCH_TRAMPOLINE_BYTES];
	struct procfs_range vdso;

	if (process->slot.address)
		return NULL;
	int r = find_vdso(process, &vdso);
	if (r < 0)
		return error_new(-r, "vDSO of process %d", process->pid);
	uint64_t address = vdso.end - sizeof(room);
	if (pread(process->mem_fd, room, sizeof(room), (off_t)address) != sizeof(room))
		return error_new(errno, "vDSO of process %d at %#" PRIx64, process->pid, address);
	if (!is_free_room(room))
		return error_new(0, "vDSO of process %d: no room behind its code", process->pid);
	for (size_t i = 0; i < process->thread_count; i++)
		TRY(wait_until_outside(process, &process->threads[i], address));
	process->slot.address = address;
	return NULL;
}

void remote_slot_clear(struct process *process)
{
	uint64_t address = process->slot.address;
	static const uint8_t zeros[ARCH_TRAMPOLINE_BYTES];

	/* What stays if it fails is never executed. */
	process->slot.address = 0;
	if (address && pwrite(process->mem_fd, zeros, sizeof(zeros), (off_t)address) < 0)
		return;
}

static struct error *write_trampoline(const struct process *process, const struct thread *thread)
{
	uint64_t address = process->slot.address;
	uint8_t code[ARCH_TRAMPOLINE_BYTES];
	struct arch_registers registers = thread->registers;

	arch_registers_rewind(&registers);
	arch_trampoline(code, &registers, 0);
	/* Through the read-only mapping: FOLL_FORCE, proc_pid_mem(5). The page becomes a private copy. */
	if (pwrite(process->mem_fd, code, sizeof(code), (off_t)address) != sizeof(code))
		return error_new(errno, "trampoline of thread %d at %#" PRIx64, thread->tid, address);
	return NULL;
}

static struct error *set_registers(const struct thread *thread, const struct arch_registers *registers)
{
	int r = arch_registers_set(thread->tid, registers);

	return r < 0 ? error_new(-r, "registers of thread %d", thread->tid) : NULL;
}

struct error *remote_deliver(struct process *process, struct thread *thread, int signal)
{
	enum stop stop;

	TRY(set_registers(thread, &thread->registers));
	TRY(THREAD_PTRACE(thread, PTRACE_INTERRUPT, 0, 0));
	thread->is_stopped = false;
	TRY(THREAD_PTRACE(thread, PTRACE_CONT, 0, signal));
	TRY(thread_wait_interrupted(thread, &stop));
	if (stop != STOP_INTERRUPTED)
		return error_new(ESRCH, "thread %d", thread->tid);
	TRY(thread_read(process, thread));
	if (!thread->fpu.bytes) /* nobody has asked for it yet */
		return NULL;
	TRY(thread_read_rest(thread));
	return thread_read_pending(thread, true, &process->pending);
}

/* At the entry of the harmless call: from here on it is the one that we want. */
static struct error *put_in(const struct thread *thread, const struct remote_request *request)
{
	struct arch_registers now;

	int r = arch_registers_get(thread->tid, &now);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	arch_registers_enter(&now, request->number, request->arguments);
	return set_registers(thread, &now);
}

/*
 * Runs to the exit of the call. False in *ret_done: a signal was delivered instead, and the call not begun.
 *
 * A thread under seccomp begins with a call that it may make, and gets the other one when it has stopped at the entry: so we
 * can die before that without harm to it.
 */
static struct error *try_call(struct process *process, struct thread *thread, const struct remote_request *request,
                              bool *ret_done)
{
	static const uint64_t nothing[6] = {UINT64_MAX};
	struct arch_registers call = thread->registers;
	long harmless;
	bool is_swapped = thread->seccomp != SECCOMP_IS_OFF && seccomp_harmless(process, thread, &harmless);

	if (is_swapped)
		arch_registers_syscall(&call, process->slot.address, harmless, nothing);
	else
		arch_registers_syscall(&call, process->slot.address, request->number, request->arguments);
	TRY(set_registers(thread, &call));
	for (int syscall_stops = 0; syscall_stops < 2;) {
		enum stop stop;
		int signal = 0;

		thread->is_stopped = false;
		TRY(THREAD_PTRACE(thread, PTRACE_SYSCALL, 0, 0));
		TRY(thread_wait(thread, &stop, &signal));
		if (stop == STOP_GONE || stop == STOP_EXEC)
			return error_new(ESRCH, "thread %d", thread->tid);
		if (stop == STOP_SIGNAL) {
			*ret_done = false;
			return remote_deliver(process, thread, signal);
		}
		syscall_stops += stop == STOP_SYSCALL;
		if (is_swapped && stop == STOP_SYSCALL && syscall_stops == 1)
			TRY(put_in(thread, request));
	}
	*ret_done = true;
	return NULL;
}

struct error *remote_call(struct process *process, struct thread *thread, const struct remote_request *request,
                          int64_t *ret_result)
{
	bool is_done = false;

	for (int i = 0; !is_done; i++) {
		if (i == SIGNALS_MAX)
			return error_new(EBUSY, "%s in thread %d: signals keep coming", request->name, thread->tid);
		TRY(write_trampoline(process, thread));
		TRY(try_call(process, thread, request, &is_done), "%s in thread %d", request->name, thread->tid);
	}
	struct arch_registers after;
	int r = arch_registers_get(thread->tid, &after);
	if (r < 0)
		return error_new(-r, "registers of thread %d", thread->tid);
	*ret_result = arch_syscall_result(&after);
	thread->has_called = true;
	/* In this stop the kernel wouldn't look at a call that was interrupted. */
	after = thread->registers;
	arch_registers_rewind(&after);
	return set_registers(thread, &after);
}

struct error *remote_call_idle(struct process *process, const struct remote_request *request, int64_t *ret_result)
{
	TRY(remote_slot_find(process));
	for (size_t i = 0; i < process->thread_count; i++) {
		struct thread *thread = &process->threads[i];

		if (thread->has_begun || thread->is_gone || !thread->is_stopped)
			continue;
		TRY(THREAD_PTRACE(thread, PTRACE_SETOPTIONS, 0, PTRACE_O_TRACESYSGOOD));
		struct error *error = remote_call(process, thread, request, ret_result);
		return error_join(error, THREAD_PTRACE(thread, PTRACE_SETOPTIONS, 0, 0));
	}
	return error_new(EBUSY, "%s: all threads of process %d are in calls", request->name, process->pid);
}

static uint64_t room_address(const struct process *process, size_t size_bytes)
{
	return (process->slot.address - size_bytes) & ~UINT64_C(7);
}

struct error *remote_room_put(struct process *process, const void *bytes, size_t size_bytes, uint64_t *ret_address)
{
	uint8_t room[ROOM_BYTES_MAX];
	static const uint8_t zeros[ROOM_BYTES_MAX];

	TRY(remote_slot_find(process));
	uint64_t address = room_address(process, size_bytes);
	assert(size_bytes <= sizeof(room));
	if (pread(process->mem_fd, room, size_bytes, (off_t)address) != (ssize_t)size_bytes ||
	    memcmp(room, zeros, size_bytes) != 0)
		return error_new(0, "vDSO of process %d: no room for %zu bytes behind its code", process->pid,
		                 size_bytes);
	if (pwrite(process->mem_fd, bytes, size_bytes, (off_t)address) != (ssize_t)size_bytes)
		return error_new(errno, "write %zu bytes behind the vDSO of process %d", size_bytes, process->pid);
	*ret_address = address;
	return NULL;
}

void remote_room_clear(struct process *process, size_t size_bytes)
{
	static const uint8_t zeros[ROOM_BYTES_MAX];

	/* What stays if it fails is never read. */
	if (pwrite(process->mem_fd, zeros, size_bytes, (off_t)room_address(process, size_bytes)) < 0)
		return;
}
