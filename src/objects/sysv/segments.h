/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Segments of System V shared memory (shmget(2)), but for what they hold, which is shared memory like all other
 * (memory/shared.h), and for being attached (memory/sysv_attach.h).
 *
 * Carried: id, key, size, owner, creator, mode, locks (SHM_LOCK), huge pages, and that it has been removed and waits for
 * its last process to detach. Not: the times of shmctl(2), and the PIDs of a creator that has ended and of the last user.
 */
#pragma once

#include "image/store.h"
#include "ipc-shm.pb-c.h"
#include "objects/sysv/sysv.h"
#include "task/process.h"

/* One that is attached, unless it is in the store already. name is that of a mapping, hugetlb_flag as in the image. */
MUST_USE struct error *segment_save(uint32_t id, const char *name, uint32_t hugetlb_flag,
                                    const struct sysv_users *users, struct image_store *store);

/* The caller frees it. */
MUST_USE struct error *segments_find(const struct image_store *store, uint32_t id, IpcShmEntry **ret_entry);

/* Creates it in a task of ours. */
MUST_USE struct error *segment_make(struct process *task, const IpcShmEntry *entry);

/* For reading and writing; the caller closes it. */
MUST_USE struct error *segment_open(uint32_t id, int *ret_fd);

/* When all that is to attach it has done so: owner, mode, lock, and its end to come. */
MUST_USE struct error *segment_finish(const IpcShmEntry *entry);
