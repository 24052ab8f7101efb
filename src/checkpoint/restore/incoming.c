/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>

#include "checkpoint/restore/incoming.h"
#include "network/lock.h"
#include "objects/objects.h"
#include "util/alloc.h"

struct incoming {
	struct net_lock *lock; /* owned; NULL: nothing to lock */
	struct flow *flows;    /* owned */
	size_t count;
};

static struct error *read_flows(const struct image_store *store, struct incoming *incoming)
{
	size_t files = image_count(store, IMAGE_FILES, 0);

	incoming->flows = xalloc((files + 1) * sizeof(*incoming->flows));
	for (size_t i = 0; i < files; i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_FILES, 0, i, &message));
		FileEntry *entry = (FileEntry *)message;
		const struct file_ops *ops = file_ops_of_type(entry->type);
		if (ops && ops->entry_flow && ops->entry_flow(entry, &incoming->flows[incoming->count]))
			incoming->count++;
		file_entry__free_unpacked(entry, NULL);
	}
	return NULL;
}

struct error *incoming_lock(const struct image_store *store, struct incoming **ret_incoming)
{
	auto_incoming struct incoming *incoming = xalloc(sizeof(*incoming));

	TRY(read_flows(store, incoming));
	if (incoming->count > 0) {
		TRY(net_lock_open(&incoming->lock));
		TRY(net_lock_engage(incoming->lock, incoming->flows, incoming->count));
	}
	*ret_incoming = take(incoming);
	return NULL;
}

struct error *incoming_unlock(struct incoming *incoming)
{
	if (!incoming->lock)
		return NULL;
	TRY(kept_locks_unlock(incoming->lock, incoming->flows, incoming->count));
	return net_lock_release(incoming->lock);
}

void incoming_free(struct incoming *incoming)
{
	if (!incoming)
		return;
	net_lock_free(incoming->lock);
	free(incoming->flows);
	free(incoming);
}
