/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Signals that wait because they are blocked: of each thread, and of the process as a whole (signal(7)). They were read
 * when the threads stopped.
 *
 * Traps: a siginfo that says that the kernel or another process sent it can be queued only by the thread that it is
 * for: rt_sigqueueinfo(2). SIGSTOP can't be blocked: where it waits, the process is as good as stopped.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "objects/state.h"
#include "util/alloc.h"

enum {
	SIGNALS_PER_BATCH = 32, /* siginfo of each in the batch's data */
	SIGINFO_BYTES = 128,
	SIGNALS_MAX = 64,
};
_Static_assert(sizeof(siginfo_t) == SIGINFO_BYTES, "as the kernel has it");

/* ---- Saving ---- */

static SiginfoEntry *siginfo_new(const siginfo_t *info)
{
	SiginfoEntry *entry = xalloc(sizeof(*entry));

	siginfo_entry__init(entry);
	entry->siginfo.len = sizeof(*info);
	entry->siginfo.data = memcpy(xalloc(sizeof(*info)), info, sizeof(*info));
	return entry;
}

static SignalQueueEntry *queue_of(const struct pending_signals *pending)
{
	SignalQueueEntry *queue = xalloc(sizeof(*queue));

	signal_queue_entry__init(queue);
	queue->signals = xalloc((pending->count + 1) * sizeof(*queue->signals));
	for (size_t i = 0; i < pending->count; i++)
		if (pending->list[i].si_signo != SIGSTOP)
			queue->signals[queue->n_signals++] = siginfo_new(&pending->list[i]);
	return queue;
}

static struct error *pending_signals_save(const struct state_save *state, const void *collected, const void *asked,
                                          const struct batch *batch)
{
	(void)collected;
	(void)asked;
	(void)batch;
	state->core->thread_core->signals_p = queue_of(&state->thread->pending);
	if (state->core->tc)
		state->core->tc->signals_s = queue_of(&state->process->pending);
	return NULL;
}

/* ---- Restoring ---- */

static struct error *append_signal(const struct state_restore *state, struct batch *batch, const SiginfoEntry *entry,
                                   bool for_process)
{
	siginfo_t info;

	if (entry->siginfo.len != sizeof(info))
		return error_new(EBADMSG, "siginfo of %zu bytes", entry->siginfo.len);
	memcpy(&info, entry->siginfo.data, sizeof(info));
	if (info.si_signo < 1 || info.si_signo > SIGNALS_MAX || info.si_signo == SIGKILL || info.si_signo == SIGSTOP)
		return error_new(EBADMSG, "pending signal %d", info.si_signo);
	struct arg signal = val((uint64_t)info.si_signo);
	struct arg bytes = batch_bytes(batch, &info, sizeof(info));
	if (for_process)
		batch_call(batch, rt_sigqueueinfo, val((uint64_t)state->own_pid), signal, bytes);
	else
		batch_call(batch, rt_tgsigqueueinfo, val((uint64_t)state->own_pid), val((uint64_t)state->own_tid),
		           signal, bytes);
	return NULL;
}

/* In batches of its own: there may be thousands. */
static struct error *restore_queue(const struct state_restore *state, const SignalQueueEntry *queue, bool for_process)
{
	for (size_t i = 0; queue && i < queue->n_signals; i += SIGNALS_PER_BATCH) {
		auto_batch struct batch *batch = process_batch(state->process, state->thread);

		for (size_t j = i; j < queue->n_signals && j < i + SIGNALS_PER_BATCH; j++)
			TRY(append_signal(state, batch, queue->signals[j], for_process));
		TRY(process_run(state->process, batch));
	}
	return NULL;
}

static struct error *pending_signals_restore(const struct state_restore *state, struct batch *batch)
{
	(void)batch;
	TRY(restore_queue(state, state->core->thread_core->signals_p, false));
	return state->core->tc ? restore_queue(state, state->core->tc->signals_s, true) : NULL;
}

const struct state_ops pending_signals_ops = {
	.name = "pending signals",
	.scope = STATE_THREAD,
	.save = pending_signals_save,
	.restore = pending_signals_restore,
};
