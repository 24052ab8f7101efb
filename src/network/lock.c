/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <linux/netlink.h>

#include "network/lock.h"
#include "network/ruleset.h"
#include "util/alloc.h"

struct net_lock {
	struct netlink *netlink;     /* owned; the table goes with it */
	struct ruleset_batch *batch; /* owned; empty between calls */
	char *table;                 /* owned */
};

struct error *net_lock_open(struct net_lock **ret_lock)
{
	auto_net_lock struct net_lock *lock = xalloc(sizeof(*lock));

	TRY(netlink_open(NETLINK_NETFILTER, &lock->netlink), "network lock");
	lock->batch = ruleset_batch_new();
	lock->table = xformat("godwit-own-%u", netlink_port_id(lock->netlink));
	ruleset_add_table(lock->batch, &(struct ruleset_table){.name = lock->table, .is_owned = true});

	struct error *error = error_wrap(ruleset_commit(lock->batch, lock->netlink), "network lock %s", lock->table);
	if (error && (error_errnum(error) == EOPNOTSUPP || error_errnum(error) == EINVAL))
		return error_hint(error, "the network lock needs Linux 5.12 with nftables for family inet "
		                         "(CONFIG_NF_TABLES_INET)");
	if (error && error_errnum(error) == EPERM)
		return error_hint(error,
		                  "the network lock needs CAP_NET_ADMIN in the network namespace of the program");
	TRY(error);
	*ret_lock = take(lock);
	return NULL;
}

void net_lock_free(struct net_lock *lock)
{
	if (!lock)
		return;
	netlink_free(lock->netlink);
	ruleset_batch_free(lock->batch);
	free(lock->table);
	free(lock);
}

struct netlink *net_lock_channel(struct net_lock *lock)
{
	return lock->netlink;
}

struct error *net_lock_engage(struct net_lock *lock, const struct flow *flows, size_t count)
{
	ruleset_add_flows(lock->batch, lock->table, flows, count);
	return error_wrap(ruleset_commit(lock->batch, lock->netlink), "lock the network");
}

struct error *net_lock_release(struct net_lock *lock)
{
	ruleset_clear(lock->batch, lock->table);
	return error_wrap(ruleset_commit(lock->batch, lock->netlink), "unlock the network");
}

struct error *net_lock_dropped(const struct net_lock *lock, uint64_t *ret_packets)
{
	return ruleset_dropped(lock->netlink, lock->table, ret_packets);
}
