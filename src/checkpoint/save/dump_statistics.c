/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* stats-dump: how long a dump took, and what it saved, in CRIU's terms. */
#include <stdlib.h>

#include "checkpoint/save/dump.h"
#include "image/store.h"
#include "stats.pb-c.h"

static uint32_t us(uint64_t ns)
{
	return ns / 1000 < UINT32_MAX ? (uint32_t)(ns / 1000) : UINT32_MAX;
}

void dump_statistics_free(struct dump_statistics *statistics)
{
	free(statistics->warning);
	statistics->warning = NULL;
}

struct error *dump_statistics_write(const struct dump_statistics *statistics, int dir_fd)
{
	auto_image_store struct image_store *store = image_store_new();
	StatsEntry entry = STATS_ENTRY__INIT;
	DumpStatsEntry dump = DUMP_STATS_ENTRY__INIT;

	dump.freezing_time = us(statistics->freezing_ns);
	dump.frozen_time = us(statistics->frozen_ns);
	dump.memdump_time = us(statistics->memory_ns);
	dump.memwrite_time = us(statistics->write_ns);
	dump.pages_scanned = statistics->pages_scanned;
	dump.pages_skipped_parent = statistics->pages_kept;
	dump.pages_written = statistics->pages_written;
	entry.dump = &dump;
	image_put(store, IMAGE_STATS_DUMP, 0, &entry.base);
	return image_store_write(store, dir_fd);
}
