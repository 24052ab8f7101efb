/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The alternate signal stack of a thread: sigaltstack(2). Only the thread itself can tell. */
#include <signal.h>
#include <string.h>

#include "objects/state.h"
#include "util/alloc.h"

static void *sigaltstack_ask(const struct state_save *state, struct batch *batch)
{
	struct arg *answer = xalloc(sizeof(*answer));

	(void)state;
	*answer = batch_space(batch, sizeof(stack_t));
	batch_call(batch, sigaltstack, val(0), *answer);
	return answer;
}

static struct error *sigaltstack_save(const struct state_save *state, const void *collected, const void *asked,
                                      const struct batch *batch)
{
	const struct arg *answer = asked;
	ThreadSasEntry *entry = xalloc(sizeof(*entry));
	stack_t stack;

	(void)collected;
	memcpy(&stack, batch_output(batch, *answer), sizeof(stack));
	thread_sas_entry__init(entry);
	entry->ss_sp = (uint64_t)(uintptr_t)stack.ss_sp;
	entry->ss_size = stack.ss_size;
	entry->ss_flags = (uint32_t)stack.ss_flags;
	state->core->thread_core->sas = entry;
	return NULL;
}

static struct error *sigaltstack_restore(const struct state_restore *state, struct batch *batch)
{
	const ThreadSasEntry *entry = state->core->thread_core->sas;

	if (!entry)
		return NULL;
	/* SS_ONSTACK says that the thread is on it just now: the stack pointer tells the kernel that again. */
	const stack_t stack = {
		.ss_sp = (void *)(uintptr_t)entry->ss_sp,
		.ss_size = entry->ss_size,
		.ss_flags = (int)(entry->ss_flags & ~(uint32_t)SS_ONSTACK),
	};
	batch_call(batch, sigaltstack, batch_bytes(batch, &stack, sizeof(stack)), val(0));
	return NULL;
}

const struct state_ops sigaltstack_ops = {
	.name = "sigaltstack",
	.scope = STATE_THREAD,
	.ask = sigaltstack_ask,
	.save = sigaltstack_save,
	.restore = sigaltstack_restore,
};
