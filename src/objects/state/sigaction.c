/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Signal handlers: rt_sigaction(2). Only the process itself can tell them, 62 calls in one batch.
 *
 * The image lists signals 1 to 64 without SIGKILL and SIGSTOP, which have no handlers.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "objects/state.h"
#include "util/alloc.h"

enum { SIGNALS = 64, HANDLERS = SIGNALS - 2 };

/* The kernel's own struct, which differs from libc's: rt_sigaction(2), "C library/kernel differences". */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static bool has_handler(uint64_t signal)
{
	return signal != SIGKILL && signal != SIGSTOP;
}

struct answers {
	struct arg actions[HANDLERS];
};

static void *sigaction_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));
	size_t n = 0;

	(void)state;
	for (uint64_t signal = 1; signal <= SIGNALS; signal++) {
		if (!has_handler(signal))
			continue;
		answers->actions[n] = batch_space(batch, sizeof(struct kernel_sigaction));
		batch_call(batch, rt_sigaction, val(signal), val(0), answers->actions[n], val(sizeof(uint64_t)));
		n++;
	}
	return answers;
}

static struct error *sigaction_save(const struct state_save *state, const void *collected, const void *asked,
                                    const struct batch *batch)
{
	const struct answers *answers = asked;
	TaskCoreEntry *tc = state->core->tc;

	(void)collected;
	tc->n_sigactions = HANDLERS;
	tc->sigactions = xalloc(HANDLERS * sizeof(SaEntry *));
	for (size_t i = 0; i < HANDLERS; i++) {
		struct kernel_sigaction action;
		SaEntry *entry = xalloc(sizeof(*entry));

		memcpy(&action, batch_output(batch, answers->actions[i]), sizeof(action));
		sa_entry__init(entry);
		entry->sigaction = action.handler;
		entry->flags = action.flags;
		entry->restorer = action.restorer;
		entry->mask = action.mask;
		tc->sigactions[i] = entry;
	}
	return NULL;
}

static struct error *sigaction_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskCoreEntry *tc = state->core->tc;
	uint64_t signal = 0;

	if (tc->n_sigactions > HANDLERS)
		return error_new(EBADMSG, "%zu signal handlers", tc->n_sigactions);
	for (size_t i = 0; i < tc->n_sigactions; i++) {
		const SaEntry *entry = tc->sigactions[i];
		const struct kernel_sigaction action = {
			.handler = entry->sigaction,
			.flags = entry->flags,
			.restorer = entry->restorer,
			.mask = entry->mask,
		};

		do
			signal++;
		while (!has_handler(signal));
		batch_call(batch, rt_sigaction, val(signal), batch_bytes(batch, &action, sizeof(action)), val(0),
		           val(sizeof(uint64_t)));
	}
	return NULL;
}

const struct state_ops sigaction_ops = {
	.name = "sigaction",
	.scope = STATE_PROCESS,
	.ask = sigaction_ask,
	.save = sigaction_save,
	.restore = sigaction_restore,
};
