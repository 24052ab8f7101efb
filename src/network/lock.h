/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The network lock: no packet of the program's connections gets in or out, and no new one begins, while its sockets
 * are on their way. Peers see a network that lost a packet, and send it again.
 *
 * A lock is an nftables table (ruleset.h) in the network namespace in which the calling thread is when it is made.
 * There are two kinds:
 *
 * - Ours, struct net_lock: its table belongs to our netlink channel (NFT_TABLE_F_OWNER, Linux 5.12), so it goes when
 *   this process does, in whatever way, and nobody else can change it. Made empty before the freeze; to lock is then
 *   one message.
 * - One that is kept without us, for a task that stands still and must stay unheard of: its table is named
 *   godwit-PID-STARTTIME. When the task is gone, the next run removes it: kept_locks_sweep(). Or for a program that was
 *   saved and ended: godwit-PID-0. That one stays until a restore brings its connections back, or somebody removes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "util/error.h"
#include "util/flow.h"

struct net_lock;

/* A lock that doesn't drop anything yet. */
MUST_USE struct error *net_lock_open(struct net_lock **ret_lock);

/* Removes the table: unlocked. */
void net_lock_free(struct net_lock *lock);
DEFINE_OWNED(struct net_lock *, net_lock_free)
#define auto_net_lock AUTO(net_lock_free)

/* Locks flows, besides those that are locked already. Runs frozen: one call. */
MUST_USE struct error *net_lock_engage(struct net_lock *lock, const struct flow *flows, size_t count);

/* Unlocks all. The lock can be engaged again. */
MUST_USE struct error *net_lock_release(struct net_lock *lock);

/* The number of packets that were dropped since net_lock_open(). Each cost its sender about 200 ms, a SYN 1 s. */
MUST_USE struct error *net_lock_dropped(const struct net_lock *lock, uint64_t *ret_packets);

/* Whose lock is kept: a task, by PID and start time (field 22 of /proc/PID/stat), which no other task ever shares. */
struct lock_holder {
	pid_t pid;
	uint64_t start_time; /* 0: a program that was saved and ended: its lock stays until it is restored */
};

struct kept_lock {
	struct lock_holder holder;
	time_t made_s; /* since when, CLOCK_REALTIME */
	uint64_t dropped_packets;
	bool is_stale; /* the holder is gone */
};

/*
 * Locks flows for as long as nobody removes that, and replaces what was kept for the holder. Runs frozen: one call, by the
 * channel of a lock of ours, since closing a channel that has changed rules takes 10 ms (seen).
 */
MUST_USE struct error *kept_lock_put(struct net_lock *via, const struct lock_holder *holder, const struct flow *flows,
                                     size_t count);

/* What is kept in this network namespace for tasks of this PID namespace. The caller frees the array with free(3). */
MUST_USE struct error *kept_locks_list(struct kept_lock **ret_locks, size_t *ret_count);

/* Removes what is kept for the holder. None is no error. */
MUST_USE struct error *kept_lock_remove(const struct lock_holder *holder);

/* Removes what is kept for tasks that are gone, but not for programs that were saved and ended. */
MUST_USE struct error *kept_locks_sweep(size_t *ret_removed);

/* Unlocks these flows wherever they are kept locked; a table that has no others goes. By the channel of via, as above. */
MUST_USE struct error *kept_locks_unlock(struct net_lock *via, const struct flow *flows, size_t count);

/* For kept-lock.c. Borrowed. */
struct netlink;
struct netlink *net_lock_channel(struct net_lock *lock);
