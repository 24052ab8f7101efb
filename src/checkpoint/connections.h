/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The connections of a frozen program: waiting until nothing is on its way, locking them, holding them while they are
 * saved, and what becomes of them then.
 *
 * A packet that the lock drops costs its sender 200 ms, so the lock is taken last and for as short as possible.
 */
#pragma once

#include "checkpoint/save.h"
#include "network/lock.h"
#include "task/keeper.h"

struct connections;

/* Before the freeze: makes the lock, which doesn't drop anything yet. keeper and saver are borrowed until free. */
MUST_USE struct error *connections_new(struct saver *saver, struct keeper *keeper,
                                       struct connections **ret_connections);

/* Also lets the connections go on, and unlocks them, if that hasn't been decided yet. */
void connections_free(struct connections *connections);
DEFINE_OWNED(struct connections *, connections_free)
#define auto_connections AUTO(connections_free)

/*
 * Runs frozen. Waits up to wait_ns until nothing is on its way any more. What is left then are bytes that will be sent
 * again, which costs time but loses nothing; and connections that would be lost, for which the program has to run.
 */
MUST_USE struct error *connections_drain(struct connections *connections, uint64_t wait_ns, struct unsent *ret_left);

/* Runs frozen: locks, and puts the connections into the store. They don't work from here on. */
MUST_USE struct error *connections_save(struct connections *connections, struct image_store *store);

/* The program goes on here: its connections, too. */
MUST_USE struct error *connections_go_on(struct connections *connections);

/* The program doesn't go on here: the lock stays, without us, in the name of holder. */
MUST_USE struct error *connections_keep_locked(struct connections *connections, const struct lock_holder *holder);

/* How many packets the lock has dropped. */
MUST_USE struct error *connections_dropped(const struct connections *connections, uint64_t *ret_packets);
