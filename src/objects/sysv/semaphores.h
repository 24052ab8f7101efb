/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sets of System V semaphores (semget(2)).
 *
 * Carried: id, key, owner, creator, mode, values, who was the last to use each one, and whether any has been used
 * (sem_otime, by which programs tell that a set has been initialized), what SEM_UNDO has to undo (undo.h). Not: the times
 * themselves.
 */
#pragma once

#include "ipc-sem.pb-c.h"
#include "objects/sysv/sysv.h"

/* Who was the last to use each one, 0: nobody. The caller frees *ret_pids. Negative errno: there is no such set. */
int semaphores_users(uint32_t id, pid_t **ret_pids, size_t *ret_count);

/* How many threads wait for one of them. */
size_t semaphores_waiters(uint32_t id);

/*
 * Frozen: processes are those of users, NULL for one that has ended. NULL instead of all: without what there is to undo,
 * while it runs.
 */
MUST_USE struct error *semaphores_save(uint32_t id, const struct sysv_users *users, struct process *const *processes,
                                       struct image_store *store);

/* Which task of ours acts for a process of the program: that one or, if there is none, any other. */
struct sysv_makers {
	struct process *(*find)(const struct sysv_makers *makers, uint32_t own_pid);
};

/* Creates a set with its values: message number index of the image. */
MUST_USE struct error *semaphores_make(const IpcSemEntry *entry, size_t index, const struct image_store *store,
                                       const struct sysv_makers *makers);
