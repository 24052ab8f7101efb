/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <inttypes.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "checkpoint/save/save_sysv.h"
#include "objects/sysv/segments.h"

struct error *save_segments(const struct areas *areas, const struct sysv_users *users, struct image_store *store)
{
	const uint32_t sizes = (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;

	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];
		uint32_t flags = area->entry.flags;

		if (area->entry.status & AREA_SYSV)
			TRY(segment_save((uint32_t)area->inode, area->path,
			                 flags & MAP_HUGETLB ? SHM_HUGETLB | (flags & sizes) : 0, users, store),
			    "area %#" PRIx64, area->entry.start);
	}
	return NULL;
}
