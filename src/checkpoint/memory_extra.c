/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>

#include "checkpoint/memory_extra.h"
#include "memory/policies.h"
#include "util/alloc.h"

/* The kernel shows it as "[anon:NAME]", that of shared memory as "[anon_shmem:NAME]". NULL: none. The caller frees. */
static char *given_name(const struct area *area)
{
	static const char *const begins[] = {"[anon:", "[anon_shmem:"};

	for (size_t i = 0; area->path && i < sizeof(begins) / sizeof(begins[0]); i++) {
		size_t length = strlen(begins[i]);

		if (strncmp(area->path, begins[i], length) == 0)
			return xformat("%.*s", (int)(strlen(area->path) - length - 1), area->path + length);
	}
	return NULL;
}

/* False: there is nothing to say. */
static bool describe(const struct area *area, AreaExtraEntry *extra)
{
	area_extra_entry__init(extra);
	extra->start = area->entry.start;
	extra->end = area->entry.end;
	extra->name = given_name(area);
	extra->has_sealed = extra->sealed = (area->extra & AREA_SEALED) != 0;
	extra->has_droppable = extra->droppable = (area->extra & AREA_DROPPABLE) != 0;
	if (area->policy) {
		extra->has_policy = true;
		extra->policy = area->policy->mode;
		extra->n_nodes = sizeof(area->policy->nodes) / sizeof(area->policy->nodes[0]);
		extra->nodes = area->policy->nodes; /* borrowed */
	}
	return extra->name || extra->sealed || extra->droppable || extra->has_policy;
}

void memory_extra_put(pid_t pid, const struct areas *areas, uint32_t lock_future, struct image_store *store)
{
	MemoryExtraEntry entry = MEMORY_EXTRA_ENTRY__INIT;
	auto_free AreaExtraEntry *list = xalloc((areas->count + 1) * sizeof(*list));
	auto_free AreaExtraEntry **pointers = xalloc((areas->count + 1) * sizeof(*pointers));

	for (size_t i = 0; i < areas->count; i++)
		if (describe(&areas->list[i], &list[entry.n_areas])) {
			pointers[entry.n_areas] = &list[entry.n_areas];
			entry.n_areas++;
		}
	entry.areas = pointers;
	entry.has_lock_future = lock_future != 0;
	entry.lock_future = lock_future;
	image_put(store, IMAGE_MEMORY_EXTRA, (uint64_t)pid, &entry.base);
	for (size_t i = 0; i < entry.n_areas; i++)
		free(list[i].name);
}

struct error *memory_extra_get(const struct image_store *store, pid_t pid, MemoryExtraEntry **ret_extra)
{
	*ret_extra = NULL;
	if (image_count(store, IMAGE_MEMORY_EXTRA, (uint64_t)pid) == 0)
		return NULL;
	return image_get(store, IMAGE_MEMORY_EXTRA, (uint64_t)pid, 0, (ProtobufCMessage **)ret_extra);
}
