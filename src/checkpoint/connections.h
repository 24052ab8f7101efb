/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The connections of a frozen program: waiting until nothing is on its way, locking them, holding them while they are
 * saved, and what becomes of them then.
 *
 * A packet that the lock drops costs its sender 200 ms, so the lock is taken last and for as short as possible.
 */
#pragma once

#include "checkpoint/save/save.h"
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

/*
 * The program is about not to go on here: a lock that stays without us, in the name of holder. All can be undone until
 * connections_stay(): by connections_go_on(), or by the keeper.
 */
MUST_USE struct error *connections_keep_locked(struct connections *connections, const struct lock_holder *holder);

/* It doesn't go on here: from now on the connections are left as they are. What the keeper has to undo is for the caller
 * to withdraw: keeper_commit(). */
void connections_stay(struct connections *connections);

/*
 * Brings back the connections of a program (a tree of processes) that another godwit has left without them: locks that were kept for it are
 * removed, its sockets work again. They are as they were, but for SO_REUSEADDR, which is set afterwards. Does all that can
 * be done, and tells all that couldn't.
 */
MUST_USE struct error *connections_revive(const struct lock_holder *holder);

/* How many packets the lock has dropped. */
MUST_USE struct error *connections_dropped(const struct connections *connections, uint64_t *ret_packets);
