/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Objects of System V of a tree: what it has attached of segments, and semaphores and queues as sysv_owner.h finds them. */
#pragma once

#include "image/store.h"
#include "memory/areas.h"
#include "objects/sysv/sysv.h"
#include "util/problems.h"

/* The segments among these areas, each once in a store, but for their content. */
MUST_USE struct error *save_segments(const struct areas *areas, const struct sysv_users *users,
                                     struct image_store *store);

/* Semaphores and queues with all that is in them. An error if one can't be carried. processes as in semaphores_save(). */
MUST_USE struct error *save_semaphores_and_queues(const struct sysv_users *users, struct process *const *processes,
                                                  struct image_store *store);

/* Adds what of semaphores and queues can't be carried. The tree runs. */
void save_sysv_check(const struct sysv_users *users, struct problems *problems);

/* In the freeze: an error if a thread of that process waits for such an object that isn't carried. */
MUST_USE struct error *save_sysv_check_calls(const struct sysv_users *users, const struct process *process);
