/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Written pages told by nothing at all: each one that is there may have been. For kernels and programs that leave no
 * other way. */
#include <stdlib.h>

#include "memory/dirty_scan.h"
#include "util/alloc.h"

struct dirty {
	pid_t pid;
};

static struct error *begin(struct process *process, struct dirty **ret_dirty)
{
	*ret_dirty = xalloc(sizeof(**ret_dirty));
	(*ret_dirty)->pid = process->pid;
	return NULL;
}

static struct error *look_at_pages(struct dirty *dirty, const struct look *look)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;
	/* Present or swapped is all that is asked of a page. */
	const uint64_t written = UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED;
	auto_ranges struct ranges all = {0};
	const struct look whole = {.areas = look->areas, .ret_there = look->ret_there, .ret_written = &all};

	TRY(dirty_scan_open(dirty->pid, &scan));
	TRY(dirty_scan_areas(scan, written, &whole));
	*look->ret_written = ranges_without(&all, look->except ? look->except : &(const struct ranges){0});
	return NULL;
}

static void end(struct dirty *dirty)
{
	free(dirty);
}

const struct dirty_way dirty_hash = {
	.name = "hash",
	.knows_nothing = true,
	.begin = begin,
	.look = look_at_pages,
	.end = end,
};
