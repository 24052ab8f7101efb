/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the ways to know written pages have in common: scans of areas in pieces. */
#pragma once

#include "memory/dirty.h"
#include "memory/page_scan.h"

struct dirty_scan {
	struct page_scan pages;
	struct page_regions regions;
	bool doubts_swapped;  /* pages that are not present count as written */
	bool doubts_all;      /* all pages do */
	uint64_t piece_bytes; /* how much the next scan takes at once; 0: the least */
};

/* Never NULL where it succeeds. */
MUST_USE struct error *dirty_scan_open(pid_t pid, struct dirty_scan **ret_scan);
void dirty_scan_close(struct dirty_scan *scan);
DEFINE_OWNED(struct dirty_scan *, dirty_scan_close)
#define auto_dirty_scan AUTO(dirty_scan_close)

/* Has the area pages whose content is the process's own? */
bool dirty_has_pages(const struct area *area);

/* One piece of a query, which it moves on behind what was scanned: its regions are in scan. 0 or the negative errno of
 * page_scan_next(). */
int dirty_scan_step(struct dirty_scan *scan, struct page_query *query);

/*
 * One piece of a query, which it moves on behind what was scanned. Regions go into look's lists: all into ret_there, and
 * those with the category written into ret_written. 0 or the negative errno of page_scan_next().
 */
int dirty_scan_piece(struct dirty_scan *scan, struct page_query *query, uint64_t written, const struct look *look);

/*
 * Pages of the areas that are there, as ret_there of a look: found by those that are not, which are few. That takes 1 ms
 * per GB, where listing those that are takes 4. The caller frees it.
 */
MUST_USE struct error *dirty_scan_there(pid_t pid, const struct areas *areas, struct ranges *ret_there);

/* All areas of a look, with nothing begun anew. */
MUST_USE struct error *dirty_scan_areas(struct dirty_scan *scan, uint64_t written, const struct look *look);
