/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* memory-PID.godwit: what is known of areas and mm-PID.img has no field for. */
#pragma once

#include "godwit-memory.pb-c.h"
#include "image/store.h"
#include "memory/areas.h"

/* lock_future is what areas_lock_future() tells. */
void memory_extra_put(pid_t pid, const struct areas *areas, uint32_t lock_future, struct image_store *store);

/* *ret_extra is NULL where the image has none. The caller frees it. */
MUST_USE struct error *memory_extra_get(const struct image_store *store, pid_t pid, MemoryExtraEntry **ret_extra);

static inline void memory_extra_free(MemoryExtraEntry *extra)
{
	if (extra)
		memory_extra_entry__free_unpacked(extra, NULL);
}
DEFINE_OWNED(MemoryExtraEntry *, memory_extra_free)
#define auto_memory_extra AUTO(memory_extra_free)
