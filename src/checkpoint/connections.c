/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/connections.h"
#include "checkpoint/file_table.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum { LOOK_AGAIN_US = 100 };

struct connections {
	struct saver *saver;   /* borrowed */
	struct keeper *keeper; /* borrowed */
	struct net_lock *lock; /* owned; NULL: there are no connections */
	struct flow *flows;    /* owned */
	size_t flow_count;
	struct held_files held;
	size_t told_count;  /* of those held: the keeper knows of them */
	uint32_t *undo_ids; /* owned: of the keeper */
	size_t undo_count;
	struct lock_holder holder; /* of the lock that is kept; its pid is 0: none */
	bool is_decided;           /* whether they go on here */
};

struct error *connections_new(struct saver *saver, struct keeper *keeper, struct connections **ret_connections)
{
	auto_connections struct connections *connections = xalloc(sizeof(*connections));

	connections->saver = saver;
	connections->keeper = keeper;
	bool needs_lock = file_table_needs_lock(saver_files(saver));
	saver_drop_copies(saver);
	if (needs_lock)
		TRY(net_lock_open(&connections->lock));
	*ret_connections = take(connections);
	return NULL;
}

/* ---- Held ones ---- */

/* What the keeper needs: the same for each of its descriptors. */
struct undo {
	struct error *(*go_on)(int fd, uint32_t before);
	uint32_t before[KEEPER_FDS_MAX];
};
_Static_assert(sizeof(struct undo) <= KEEPER_BYTES_MAX, "fits into a message to the keeper");

/* In the keeper: nobody is left to be told of an error. */
static void undo_holding(const void *bytes, const int *fds, size_t fd_count)
{
	struct undo undo;

	memcpy(&undo, bytes, sizeof(undo));
	for (size_t i = 0; i < fd_count; i++)
		error_free(undo.go_on(fds[i], undo.before[i]));
}

/* As many as go into one message: those from first on that are of one kind. Returns how many. */
static size_t fill_undo(const struct connections *connections, size_t first, struct undo *undo, int *fds)
{
	size_t count = 0;

	undo->go_on = connections->held.list[first].ops->go_on;
	while (count < KEEPER_FDS_MAX && first + count < connections->held.count &&
	       connections->held.list[first + count].ops->go_on == undo->go_on) {
		undo->before[count] = connections->held.list[first + count].before;
		fds[count] = connections->held.list[first + count].fd;
		count++;
	}
	return count;
}

static struct error *add_undo(struct connections *connections, const struct keeper_undo *undo)
{
	TRY(keeper_add(connections->keeper, undo, &connections->undo_ids[connections->undo_count]));
	connections->undo_count++;
	return NULL;
}

static struct error *tell_keeper(struct connections *connections)
{
	/* One for each at most, and one for the kept lock. */
	connections->undo_ids =
		xrealloc(connections->undo_ids, (connections->held.count + 1) * sizeof(*connections->undo_ids));
	for (size_t i = connections->told_count; i < connections->held.count;) {
		struct undo undo = {0};
		int fds[KEEPER_FDS_MAX];
		size_t count = fill_undo(connections, i, &undo, fds);
		const struct keeper_undo message = {
			.undo = undo_holding,
			.bytes = &undo,
			.size_bytes = sizeof(undo),
			.fds = fds,
			.fd_count = count,
		};

		TRY(add_undo(connections, &message));
		i += count;
		connections->told_count = i;
	}
	return NULL;
}

static struct error *dismiss_keeper(struct connections *connections)
{
	while (connections->undo_count > 0)
		TRY(keeper_drop(connections->keeper, connections->undo_ids[--connections->undo_count]));
	return NULL;
}

/* ---- The steps ---- */

struct error *connections_drain(struct connections *connections, uint64_t wait_ns, struct unsent *ret_left)
{
	uint64_t end_ns = clock_now_ns() + wait_ns;

	*ret_left = (struct unsent){0};
	for (;;) {
		TRY(file_table_unsent(saver_files(connections->saver), ret_left));
		if ((ret_left->bytes == 0 && ret_left->connections == 0) || clock_now_ns() >= end_ns)
			return NULL;
		usleep(LOOK_AGAIN_US);
	}
}

/* A program that has opened its first connection since the check has no lock yet. */
static struct error *lock(struct connections *connections)
{
	TRY(file_table_flows(saver_files(connections->saver), &connections->flows, &connections->flow_count));
	if (connections->flow_count == 0)
		return NULL;
	if (!connections->lock)
		TRY(net_lock_open(&connections->lock));
	return net_lock_engage(connections->lock, connections->flows, connections->flow_count);
}

/* Whatever is in flight has to be found before it can be saved, and may be a socket with more in flight. */
static struct error *hold_and_find(struct connections *connections, struct file_table *files)
{
	for (size_t done = 0; done < file_table_descriptions(files);) {
		size_t until = file_table_descriptions(files);

		TRY(file_table_hold(files, done, until, &connections->held));
		TRY(tell_keeper(connections));
		TRY(file_table_add_in_flight(files, done, until));
		done = until;
	}
	return NULL;
}

struct error *connections_save(struct connections *connections, struct image_store *store)
{
	struct file_table *files = saver_files(connections->saver);

	TRY(hold_and_find(connections, files));
	/* Before the lock, which drops what peers send meanwhile. */
	TRY(file_table_ask(files));
	TRY(lock(connections));
	test_stop("locked");
	TRY(file_table_hold_locked(files, &connections->held));
	TRY(tell_keeper(connections));
	TRY(file_table_save_held(files, &connections->held, store));
	file_table_forget_answers(files);
	test_stop("held");
	return NULL;
}

static struct error *release(struct connections *connections)
{
	struct error *error = connections->lock ? net_lock_release(connections->lock) : NULL;

	if (connections->holder.pid)
		error = error_join(error, kept_lock_remove(&connections->holder));
	connections->holder.pid = 0;
	return error;
}

/* Unlocked first: what a socket has to say when it leaves repair mode would be dropped. */
struct error *connections_go_on(struct connections *connections)
{
	struct error *error = release(connections);

	connections->is_decided = true;
	for (size_t i = 0; i < connections->held.count; i++)
		error = error_join(error, connections->held.list[i].ops->go_on(connections->held.list[i].fd,
		                                                               connections->held.list[i].before));
	saver_drop_copies(connections->saver);
	return error_join(error, dismiss_keeper(connections));
}

/* In the keeper, before the sockets: what one has to say when it leaves repair mode would be dropped. */
static void undo_kept_lock(const void *bytes, const int *fds, size_t fd_count)
{
	struct lock_holder holder;

	(void)fds;
	(void)fd_count;
	memcpy(&holder, bytes, sizeof(holder));
	error_free(kept_lock_remove(&holder));
}

struct error *connections_keep_locked(struct connections *connections, const struct lock_holder *holder)
{
	const struct keeper_undo undo = {
		.undo = undo_kept_lock,
		.bytes = holder,
		.size_bytes = sizeof(*holder),
	};

	if (connections->flow_count == 0)
		return NULL;
	TRY(add_undo(connections, &undo));
	connections->holder = *holder;
	return kept_lock_put(connections->lock, holder, connections->flows, connections->flow_count);
}

void connections_stay(struct connections *connections)
{
	connections->is_decided = true;
}

struct error *connections_dropped(const struct connections *connections, uint64_t *ret_packets)
{
	*ret_packets = 0;
	return connections->lock ? net_lock_dropped(connections->lock, ret_packets) : NULL;
}

void connections_free(struct connections *connections)
{
	if (!connections)
		return;
	/* On the way out of something that failed for a reason of its own, which is the one to tell. */
	if (!connections->is_decided)
		error_free(connections_go_on(connections));
	for (size_t i = 0; i < connections->held.count; i++)
		close(connections->held.list[i].fd);
	free(connections->held.list);
	free(connections->undo_ids);
	free(connections->flows);
	net_lock_free(connections->lock);
	free(connections);
}

/* ---- Of a program that another godwit has left ---- */

static struct error *go_on_all(struct held_file *held, size_t count)
{
	struct error *error = NULL;

	for (size_t i = 0; i < count; i++) {
		error = error_join(error, held[i].ops->go_on(held[i].fd, held[i].before));
		close(held[i].fd);
	}
	free(held);
	return error;
}

static struct error *unlock_all(const struct file_table *files)
{
	auto_net_lock struct net_lock *via = NULL;
	auto_free struct flow *flows = NULL;
	size_t count;

	TRY(file_table_flows(files, &flows, &count));
	if (count == 0)
		return NULL;
	TRY(net_lock_open(&via));
	return kept_locks_unlock(via, flows, count);
}

struct error *connections_revive(const struct lock_holder *holder)
{
	const struct carry_options options = {.tcp_established = true};
	struct held_files held = {0};
	auto_live_tree struct live_tree live = {0};
	auto_file_table struct file_table *files = NULL; /* borrows from live */

	TRY(live_tree_read(holder->pid, &live));
	TRY(file_table_read(live.list, live.tree.count, NULL, &options, &files));
	struct error *error = error_join(kept_lock_remove(holder), unlock_all(files));
	error = error_join(error, file_table_hold_locked(files, &held));
	return error_join(error, go_on_all(held.list, held.count));
}
