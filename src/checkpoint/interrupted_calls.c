/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "checkpoint/interrupted_calls.h"
#include "godwit-calls.pb-c.h"

enum { NS_PER_MS = 1000 * 1000, NS_PER_SECOND = 1000 * 1000 * 1000 };

/* ---- Saving ---- */

void interrupted_calls_save(const struct process *process, struct image_store *store)
{
	for (size_t i = 0; i < process->thread_count; i++) {
		const struct thread *thread = &process->threads[i];
		GodwitCallEntry entry = GODWIT_CALL_ENTRY__INIT;

		if (thread->call.number == ARCH_CALL_NONE)
			continue;
		entry.tid = (uint32_t)thread->own_tid;
		entry.outcome = arch_call_outcome(&thread->registers);
		entry.has_left_ns = entry.outcome == ARCH_CALL_FROM_BLOCK && thread->call.left_ns;
		entry.left_ns = thread->call.left_ns;
		image_put(store, IMAGE_GODWIT_CALLS, (uint64_t)process->own_pid, &entry.base);
	}
}

/* ---- Building ---- */

/* False: such a call has no restart block, or not with a time that is left. */
static bool append_call(struct batch *batch, const struct thread *thread, uint64_t left_ns)
{
	const struct timespec left = {.tv_sec = (time_t)(left_ns / NS_PER_SECOND),
	                              .tv_nsec = (long)(left_ns % NS_PER_SECOND)};
	struct arg time = batch_bytes(batch, &left, sizeof(left));
	uint64_t left_ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
	struct arg a[ARCH_CALL_ARGUMENTS];

	for (unsigned i = 0; i < ARCH_CALL_ARGUMENTS; i++)
		a[i] = val(arch_call_argument(&thread->registers, i));
	switch (thread->call.number) {
	case SYS_nanosleep:
		batch_may_fail(batch, batch_call(batch, nanosleep, time, a[1]));
		return true;
	case SYS_clock_nanosleep:
		batch_may_fail(batch, batch_call(batch, clock_nanosleep, a[0], a[1], time, a[3]));
		return !(a[1].value & TIMER_ABSTIME);
	case SYS_poll:
		batch_may_fail(batch, batch_call(batch, poll, a[0], a[1], val(left_ms)));
		return left_ms <= INT_MAX;
	case SYS_futex:
		batch_may_fail(batch, batch_call(batch, futex, a[0], a[1], a[2], time, val(0), val(0)));
		return (a[1].value & FUTEX_CMD_MASK) == FUTEX_WAIT;
	default:
		return false;
	}
}

static struct error *begin(struct process *process, struct thread *thread, const GodwitCallEntry *entry)
{
	auto_batch struct batch *batch = process_batch(process, thread->index);
	bool has_block = entry->has_left_ns && entry->outcome == ARCH_CALL_FROM_BLOCK;

	if (!arch_call_resume(&thread->registers, entry->outcome))
		return error_new(EBADMSG, "outcome %u of its call", entry->outcome);
	thread->call.number = arch_call_number(&thread->registers);
	if (!has_block) {
		arch_call_forget_block(&thread->registers);
		return NULL;
	}
	batch_about(batch, "interrupted call", entry->tid);
	if (!append_call(batch, thread, entry->left_ns))
		return error_new(EBADMSG, "system call %ld with %llu ns left", thread->call.number,
		                 (unsigned long long)entry->left_ns);
	return process_begin(process, batch);
}

/* From after the one that was found last: they are in the same order. */
static struct thread *find_thread(struct process *process, uint32_t tid, size_t *at)
{
	for (size_t i = 0; i < process->thread_count; i++) {
		struct thread *thread = &process->threads[*at];

		*at = (*at + 1) % process->thread_count;
		if ((uint32_t)thread->own_tid == tid && !thread->is_gone)
			return thread;
	}
	return NULL;
}

struct error *interrupted_calls_begin(struct process *process, const struct image_store *store)
{
	size_t count = image_count(store, IMAGE_GODWIT_CALLS, (uint64_t)process->own_pid);
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_GODWIT_CALLS, (uint64_t)process->own_pid, i, &message));
		GodwitCallEntry *entry = (GodwitCallEntry *)message;
		uint32_t tid = entry->tid;
		struct thread *thread = find_thread(process, tid, &at);
		struct error *error = !thread || thread->call.number != ARCH_CALL_NONE
		                              ? error_new(EBADMSG, "an interrupted call too many")
		                              : begin(process, thread, entry);
		godwit_call_entry__free_unpacked(entry, NULL);
		TRY(error, "thread %u", tid);
	}
	return NULL;
}
