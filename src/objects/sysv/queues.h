/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V message queues (msgget(2)).
 *
 * Carried: id, key, owner, creator, mode, how much it may hold, the messages in their order with their types, the last
 * sender and receiver. Not: the times of msgctl(2). Saving only looks (MSG_COPY of msgrcv(2), Linux 3.8): no message leaves
 * the queue.
 */
#pragma once

#include "ipc-msg.pb-c.h"
#include "objects/sysv/semaphores.h"
#include "objects/sysv/sysv.h"

/* The last sender and the last receiver, 0: none. Negative errno: there is no such queue. */
int queue_users(uint32_t id, pid_t ret_pids[2]);

/* Each queue is an image of its own, by its number in a store: from IPC_NAMESPACE_ID on. */
MUST_USE struct error *queue_save(uint32_t id, uint64_t image_id, const struct sysv_users *users,
                                  struct image_store *store);

/* Creates a queue with its messages. */
MUST_USE struct error *queue_make(const IpcMsgEntry *entry, uint64_t image_id, const struct image_store *store,
                                  const struct sysv_makers *makers);
