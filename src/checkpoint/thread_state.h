/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* core-TID.img of all threads of a process: registers, and the parts in src/objects/state. */
#pragma once

#include "objects/state.h"
#include "util/problems.h"

struct thread_states;

/* What is read before the freeze. options is borrowed until free. */
MUST_USE struct error *thread_states_collect(pid_t pid, const struct carry_options *options,
                                             struct thread_states **ret_states);
void thread_states_free(struct thread_states *states);

/* Adds what can't be carried. */
void thread_states_check(const struct thread_states *states, struct problems *problems);

/* What only the program itself can tell of its memory: brk(2), PR_GET_DUMPABLE and PR_GET_THP_DISABLE of prctl(2). */
struct memory_answers {
	uint64_t brk_address;
	int dumpable;
	bool is_thp_disabled;
};

/* All threads at once; the process is parked and its FPU state was read. */
MUST_USE struct error *thread_states_save(struct thread_states *states, struct process *process,
                                          struct image_store *store, struct memory_answers *ret_answers);
