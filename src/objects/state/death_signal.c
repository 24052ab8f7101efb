/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The signal that a thread gets at its parent's death, which a change of credentials resets; and whether the process is a
 * child subreaper: PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of prctl(2).
 *
 * The parent of a restored program is not the one it had: a signal at its death tells the program that godwit has
 * ended, if the restore waits for it, and nothing if the restore is detached, for init doesn't die.
 */
#include <string.h>
#include <sys/prctl.h>

#include "objects/state.h"
#include "util/alloc.h"

struct answers {
	struct arg signal;
	struct arg subreaper; /* of the leader */
};

static struct arg ask_int(struct batch *batch, int option)
{
	struct arg space = batch_space(batch, sizeof(int));

	batch_call(batch, prctl, val((uint64_t)option), space, val(0), val(0), val(0));
	return space;
}

static int answered(const struct batch *batch, struct arg space)
{
	int value;

	memcpy(&value, batch_output(batch, space), sizeof(value));
	return value;
}

static void *death_signal_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	answers->signal = ask_int(batch, PR_GET_PDEATHSIG);
	if (state->core->tc)
		answers->subreaper = ask_int(batch, PR_GET_CHILD_SUBREAPER);
	return answers;
}

static struct error *death_signal_save(const struct state_save *state, const void *collected, const void *asked,
                                       const struct batch *batch)
{
	const struct answers *answers = asked;
	ThreadCoreEntry *core = state->core->thread_core;

	(void)collected;
	core->pdeath_sig = (uint32_t)answered(batch, answers->signal);
	core->has_pdeath_sig = core->pdeath_sig != 0;
	if (state->core->tc) {
		state->core->tc->child_subreaper = answered(batch, answers->subreaper) != 0;
		state->core->tc->has_child_subreaper = true;
	}
	return NULL;
}

static void append_prctl(struct batch *batch, int option, uint64_t value)
{
	batch_call(batch, prctl, val((uint64_t)option), val(value), val(0), val(0), val(0));
}

static struct error *death_signal_restore(const struct state_restore *state, struct batch *batch)
{
	const ThreadCoreEntry *core = state->core->thread_core;
	const TaskCoreEntry *tc = state->core->tc;

	if (core->has_pdeath_sig)
		append_prctl(batch, PR_SET_PDEATHSIG, core->pdeath_sig);
	if (!tc)
		return NULL;
	if (tc->has_child_subreaper && tc->child_subreaper)
		append_prctl(batch, PR_SET_CHILD_SUBREAPER, 1);
	return NULL;
}

const struct state_ops death_signal_ops = {
	.name = "death signal",
	.scope = STATE_THREAD,
	.ask = death_signal_ask,
	.save = death_signal_save,
	.restore = death_signal_restore,
};
