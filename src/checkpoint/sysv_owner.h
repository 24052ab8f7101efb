/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Whose are the host's System V semaphores and message queues? Nobody has a descriptor of them, and nobody is told to be
 * using one. What the kernel tells is who was the last to use each semaphore, and the last to send to and to receive from a
 * queue. So:
 *
 *     a tree's own      one of those is a process of the tree, and none is a living process outside of it
 *     shared            one is in the tree, another one lives outside
 *     nobody's          all others: they stay where they are
 */
#pragma once

#include <stdbool.h>

#include "objects/sysv/sysv.h"

enum sysv_owner { SYSV_OWN, SYSV_SHARED };

struct sysv_found {
	struct sysv_owned {
		enum sysv_kind kind;
		uint32_t id;
		enum sysv_owner owner;
		pid_t stranger; /* of a shared one: 0: not known */
	} * list;               /* owned */
	size_t count;
};

/* Semaphores and queues of these processes. */
void sysv_find(const struct sysv_users *users, struct sysv_found *ret_found);
const struct sysv_owned *sysv_found_at(const struct sysv_found *found, enum sysv_kind kind, uint32_t id);

/* A segment that one of them has made and nobody has attached, which was changed last min_age_s ago or earlier. */
bool sysv_find_unattached(const struct sysv_users *users, uint64_t min_age_s, uint32_t *ret_id, pid_t *ret_creator);

void sysv_found_free(struct sysv_found *found); /* what it points to */
#define auto_sysv_found __attribute__((cleanup(sysv_found_free)))
