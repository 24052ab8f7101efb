/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The locks of lock.h that are kept without us: tables named godwit-PID-STARTTIME. */

#include <inttypes.h>
#include <limits.h>
#include <linux/netlink.h>
#include <sys/stat.h>

#include "network/lock.h"
#include "network/ruleset-keys.h"
#include "network/ruleset.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* A table more than these is somebody's joke. */
enum { KEPT_MAX = 4096 };

static char *table_name(const struct lock_holder *holder)
{
	return xformat("godwit-%d-%" PRIu64, holder->pid, holder->start_time);
}

/* The number at *text, which it then stands behind. False if there is none, or one with a sign. */
static bool parse_number(const char **text, uint64_t *ret_number)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*ret_number = strtoull(*text, &end, 10);
	*text = end;
	return errno == 0;
}

/* False for a table that isn't ours. */
static bool parse_table_name(const char *name, struct lock_holder *ret_holder)
{
	uint64_t pid;
	uint64_t start_time;

	if (strncmp(name, "godwit-", 7) != 0)
		return false;
	name += 7;
	if (!parse_number(&name, &pid) || pid == 0 || pid > INT_MAX || *name++ != '-')
		return false;
	if (!parse_number(&name, &start_time) || *name != '\0')
		return false;
	*ret_holder = (struct lock_holder){.pid = (pid_t)pid, .start_time = start_time};
	return true;
}

/* A PID means something in one PID namespace alone; its inode number names it. */
static struct error *own_pid_namespace(uint64_t *ret_id)
{
	struct stat stat_of;

	if (stat("/proc/self/ns/pid", &stat_of) != 0)
		return error_new(errno, "stat(/proc/self/ns/pid)");
	*ret_id = stat_of.st_ino;
	return NULL;
}

struct error *kept_lock_put(struct net_lock *via, const struct lock_holder *holder, const struct flow *flows,
                            size_t count)
{
	auto_ruleset_batch struct ruleset_batch *batch = ruleset_batch_new();
	auto_free char *name = table_name(holder);
	uint64_t namespace_id = 0;

	TRY(own_pid_namespace(&namespace_id));
	ruleset_add_table(batch, &(struct ruleset_table){.name = name, .note = {namespace_id, (uint64_t)time(NULL)}});
	ruleset_add_flows(batch, name, flows, count);
	return error_wrap(ruleset_commit(batch, net_lock_channel(via)), "keep the network locked for pid %d",
	                  holder->pid);
}

static bool is_gone(const struct lock_holder *holder)
{
	return holder->start_time && procfs_has_ended(holder->pid, holder->start_time);
}

struct holder_list {
	uint64_t namespace_id;
	struct kept_lock *locks; /* owned by who collects */
	size_t count;
};

static struct error *collect_holder(const char *name, const struct ruleset_note *note, void *context)
{
	struct holder_list *list = context;
	struct lock_holder holder;

	if (note->namespace_id != list->namespace_id || !parse_table_name(name, &holder))
		return NULL;
	if (list->count == KEPT_MAX)
		return error_new(E2BIG, "more than %d network locks", KEPT_MAX);
	list->locks[list->count++] = (struct kept_lock){
		.holder = holder,
		.made_s = (time_t)note->made_s,
		.is_stale = is_gone(&holder),
	};
	return NULL;
}

/* The caller frees the array, which is never NULL on success. */
static struct error *collect_locks(struct netlink *netlink, struct kept_lock **ret_locks, size_t *ret_count)
{
	auto_free struct kept_lock *locks = xalloc(KEPT_MAX * sizeof(*locks));
	struct holder_list list = {.locks = locks};

	TRY(own_pid_namespace(&list.namespace_id));
	TRY(ruleset_tables(netlink, collect_holder, &list));
	*ret_count = list.count;
	*ret_locks = take(locks);
	return NULL;
}

struct error *kept_locks_list(struct kept_lock **ret_locks, size_t *ret_count)
{
	auto_netlink struct netlink *netlink = NULL;
	auto_free struct kept_lock *locks = NULL;
	size_t count = 0;

	TRY(netlink_open(NETLINK_NETFILTER, &netlink));
	TRY(collect_locks(netlink, &locks, &count));
	for (size_t i = 0; i < count; i++) {
		auto_free char *name = table_name(&locks[i].holder);

		TRY(ruleset_dropped(netlink, name, &locks[i].dropped_packets));
	}
	*ret_count = count;
	*ret_locks = take(locks);
	return NULL;
}

static struct error *remove_table(struct netlink *netlink, const struct lock_holder *holder)
{
	auto_ruleset_batch struct ruleset_batch *batch = ruleset_batch_new();
	auto_free char *name = table_name(holder);

	ruleset_delete_table(batch, name);
	auto_error struct error *error = ruleset_commit(batch, netlink);
	if (error && error_errnum(error) == ENOENT)
		return NULL;
	return error_wrap(take(error), "remove the network lock of pid %d", holder->pid);
}

struct error *kept_lock_remove(const struct lock_holder *holder)
{
	auto_netlink struct netlink *netlink = NULL;

	TRY(netlink_open(NETLINK_NETFILTER, &netlink));
	return remove_table(netlink, holder);
}

struct error *kept_locks_sweep(size_t *ret_removed)
{
	auto_netlink struct netlink *netlink = NULL;
	auto_free struct kept_lock *locks = NULL;
	size_t count = 0;
	size_t removed = 0;

	TRY(netlink_open(NETLINK_NETFILTER, &netlink));
	TRY(collect_locks(netlink, &locks, &count));
	for (size_t i = 0; i < count; i++) {
		if (!locks[i].is_stale)
			continue;
		TRY(remove_table(netlink, &locks[i].holder));
		removed++;
	}
	*ret_removed = removed;
	return NULL;
}

/* Which of the wanted flows a table has, and whether it has others. */
struct coverage {
	const struct flow *wanted; /* borrowed, sorted */
	size_t wanted_count;
	struct flow *found; /* owned by who collects, room for wanted_count */
	size_t found_count;
	bool has_others;
};

/* By what the sets tell apart: an IPv4 address has nothing behind its 4 bytes there, a listener no remote end. */
static int compare_flows(const void *a, const void *b)
{
	uint8_t keys[2][RULESET_KEY_BYTES_MAX];
	enum ruleset_set sets[2] = {ruleset_set_of(a), ruleset_set_of(b)};

	if (sets[0] != sets[1])
		return sets[0] < sets[1] ? -1 : 1;
	ruleset_key(a, keys[0]);
	ruleset_key(b, keys[1]);
	return memcmp(keys[0], keys[1], sizeof(keys[0]));
}

static struct error *collect_covered(const struct flow *flow, void *context)
{
	struct coverage *coverage = context;

	if (!bsearch(flow, coverage->wanted, coverage->wanted_count, sizeof(*flow), compare_flows))
		coverage->has_others = true;
	else if (coverage->found_count < coverage->wanted_count)
		coverage->found[coverage->found_count++] = *flow;
	return NULL;
}

static struct error *unlock_in_table(struct netlink *netlink, const struct lock_holder *holder,
                                     struct coverage *coverage)
{
	auto_ruleset_batch struct ruleset_batch *batch = ruleset_batch_new();
	auto_free char *name = table_name(holder);

	coverage->found_count = 0;
	coverage->has_others = false;
	TRY(ruleset_flows(netlink, name, collect_covered, coverage));
	if (coverage->found_count == 0)
		return NULL;
	if (!coverage->has_others)
		return remove_table(netlink, holder);
	ruleset_delete_flows(batch, name, coverage->found, coverage->found_count);
	return error_wrap(ruleset_commit(batch, netlink), "unlock flows of table %s", name);
}

struct error *kept_locks_unlock(struct net_lock *via, const struct flow *flows, size_t count)
{
	struct netlink *netlink = net_lock_channel(via);
	auto_free struct kept_lock *locks = NULL;
	auto_free struct flow *wanted = xalloc((count + 1) * sizeof(*wanted));
	auto_free struct flow *found = xalloc((count + 1) * sizeof(*found));
	size_t lock_count = 0;

	memcpy(wanted, flows, count * sizeof(*wanted));
	qsort(wanted, count, sizeof(*wanted), compare_flows);
	struct coverage coverage = {.wanted = wanted, .wanted_count = count, .found = found};

	TRY(collect_locks(netlink, &locks, &lock_count));
	for (size_t i = 0; i < lock_count; i++)
		TRY(unlock_in_table(netlink, &locks[i].holder, &coverage));
	return NULL;
}
