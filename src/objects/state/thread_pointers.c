/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Where in the program's memory the kernel writes for a thread: the word it clears and wakes when the thread ends
 * (set_tid_address(2)), the list of futexes it holds (get_robust_list(2)), the area of restartable sequences (rseq(2)).
 *
 * Restored last: from then on, a thread that dies writes to the program's memory.
 */
#include <string.h>
#include <sys/prctl.h>

#include "arch/x86_64/core.h"
#include "objects/state.h"
#include "util/alloc.h"

struct answers {
	struct arg clear_tid, robust_head, robust_size;
};

static void *thread_pointers_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->clear_tid = batch_space(batch, sizeof(uint64_t));
	answers->robust_head = batch_space(batch, sizeof(uint64_t));
	answers->robust_size = batch_space(batch, sizeof(uint64_t));
	/* CONFIG_CHECKPOINT_RESTORE; Linux 3.5 */
	batch_call(batch, prctl, val(PR_GET_TID_ADDRESS), answers->clear_tid, val(0), val(0), val(0));
	batch_call(batch, get_robust_list, val(0), answers->robust_head, answers->robust_size);
	return answers;
}

static uint64_t answered(const struct batch *batch, struct arg space)
{
	uint64_t value;

	memcpy(&value, batch_output(batch, space), sizeof(value));
	return value;
}

static struct error *thread_pointers_save(const struct state_save *state, const void *collected, const void *asked,
                                          const struct batch *batch)
{
	const struct answers *answers = asked;
	const struct thread_rseq *rseq = &state->thread->rseq;
	ThreadCoreEntry *core = state->core->thread_core;

	(void)collected;
	arch_core_set_clear_tid(state->core, answered(batch, answers->clear_tid));
	core->futex_rla = answered(batch, answers->robust_head);
	core->futex_rla_len = (uint32_t)answered(batch, answers->robust_size);
	if (!rseq->address)
		return NULL;
	core->rseq_entry = xalloc(sizeof(*core->rseq_entry));
	rseq_entry__init(core->rseq_entry);
	core->rseq_entry->rseq_abi_pointer = rseq->address;
	core->rseq_entry->rseq_abi_size = rseq->size_bytes;
	core->rseq_entry->signature = rseq->signature;
	return NULL;
}

static struct error *thread_pointers_restore(const struct state_restore *state, struct batch *batch)
{
	const ThreadCoreEntry *core = state->core->thread_core;
	const RseqEntry *rseq = core->rseq_entry;

	batch_call(batch, set_tid_address, val(arch_core_clear_tid(state->core)));
	/* Only a head of this size is taken; without one the list stays as it is in a new thread: none. */
	if (core->futex_rla)
		batch_call(batch, set_robust_list, val(core->futex_rla), val(core->futex_rla_len));
	if (rseq && rseq->rseq_abi_pointer)
		batch_call(batch, rseq, val(rseq->rseq_abi_pointer), val(rseq->rseq_abi_size), val(0),
		           val(rseq->signature));
	return NULL;
}

const struct state_ops thread_pointers_ops = {
	.name = "thread pointers",
	.scope = STATE_THREAD,
	.ask = thread_pointers_ask,
	.save = thread_pointers_save,
	.restore = thread_pointers_restore,
};
