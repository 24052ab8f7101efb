/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <inttypes.h>
#include <stdlib.h>

#include "memory/dirty_scan.h"
#include "memory/page_query.h"
#include "util/alloc.h"

/*
 * The kernel holds mmap_lock meanwhile, and the program's own mmap(2) waits, so scans go in pieces. But it passes over
 * emptiness in no time, and programs reserve terabytes (databases, collectors of garbage): where nothing was found the
 * next piece is larger. The most is what it may cost if that one is full: 11 ms per GB to begin anew, else 0.8 ms.
 */
static const uint64_t least_piece_bytes = UINT64_C(64) << 20;
static const uint64_t most_piece_bytes = UINT64_C(64) << 30;
static const uint64_t most_new_piece_bytes = UINT64_C(1) << 30;

static struct page_query next_piece(struct dirty_scan *scan, const struct page_query *query)
{
	struct page_query piece = *query;

	if (scan->piece_bytes < least_piece_bytes)
		scan->piece_bytes = least_piece_bytes;
	if (piece.end - piece.start > scan->piece_bytes)
		piece.end = piece.start + scan->piece_bytes;
	return piece;
}

static void adapt_piece(struct dirty_scan *scan, const struct page_query *piece, bool was_empty)
{
	uint64_t most = piece->flags & UAPI_PM_SCAN_WP_MATCHING ? most_new_piece_bytes : most_piece_bytes;

	scan->piece_bytes = was_empty ? 2 * scan->piece_bytes : least_piece_bytes;
	if (scan->piece_bytes > most)
		scan->piece_bytes = most;
}

static void close_scan(struct dirty_scan **scan)
{
	dirty_scan_close(*scan);
}

struct error *dirty_scan_open(pid_t pid, struct dirty_scan **ret_scan)
{
	__attribute__((cleanup(close_scan))) struct dirty_scan *scan = xalloc(sizeof(*scan));

	scan->pages.fd = -1;
	TRY(page_scan_open(pid, &scan->pages));
	*ret_scan = take(scan);
	return NULL;
}

void dirty_scan_close(struct dirty_scan *scan)
{
	if (scan)
		page_scan_close(&scan->pages);
	free(scan);
}

bool dirty_has_pages(const struct area *area)
{
	switch (area_content(area)) {
	case AREA_CONTENT_NONE:
	case AREA_CONTENT_VDSO:
		return false;
	case AREA_CONTENT_ANONYMOUS:
	case AREA_CONTENT_PRIVATE_FILE:
	case AREA_CONTENT_SHARED:
		return true;
	}
	return false;
}

int dirty_scan_step(struct dirty_scan *scan, struct page_query *query)
{
	const struct page_query piece = next_piece(scan, query);
	int r = page_scan_next(&scan->pages, &piece, &scan->regions);

	if (r < 0)
		return r;
	adapt_piece(scan, &piece, scan->regions.count == 0);
	query->start = scan->regions.end;
	return 0;
}

int dirty_scan_piece(struct dirty_scan *scan, struct page_query *query, uint64_t written, const struct look *look)
{
	int r = dirty_scan_step(scan, query);

	if (r < 0)
		return r;
	for (size_t i = 0; i < scan->regions.count; i++) {
		const struct uapi_page_region *region = &scan->regions.list[i];

		if (look->ret_there)
			ranges_append(look->ret_there, region->start, region->end);
		bool is_doubtful =
			scan->doubts_all || (scan->doubts_swapped && !(region->categories & UAPI_PAGE_IS_PRESENT));
		if (is_doubtful || (region->categories & written))
			ranges_append(look->ret_written, region->start, region->end);
	}
	return 0;
}

static struct error *scan_area(struct dirty_scan *scan, const struct area *area, uint64_t written,
                               const struct look *look)
{
	struct page_query query = page_query_for(&scan->pages, area);

	query.returned = written;
	if (!look->ret_there)
		query.required = written & ~query.any;
	while (query.start < query.end) {
		int r = dirty_scan_piece(scan, &query, written, look);

		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
	}
	return NULL;
}

struct error *dirty_scan_areas(struct dirty_scan *scan, uint64_t written, const struct look *look)
{
	for (size_t i = 0; i < look->areas->count; i++)
		if (dirty_has_pages(&look->areas->list[i]))
			TRY(scan_area(scan, &look->areas->list[i], written, look));
	return NULL;
}

/* ---- What is there ---- */

/* Neither present nor swapped; zeros that reading made; the file's own; guards. */
static struct page_query query_for_absent(const struct page_scan *pages, const struct area *area)
{
	struct page_query query = page_query_for(pages, area);

	query.any = query.excluded | UAPI_PAGE_IS_PRESENT;
	query.inverted = UAPI_PAGE_IS_PRESENT;
	query.excluded = 0;
	query.returned = UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED;
	return query;
}

static bool is_all_absent(const struct page_query *piece, const struct page_regions *regions)
{
	const struct uapi_page_region *only = &regions->list[0];

	return regions->count == 1 && only->start == piece->start && only->end == piece->end && only->categories == 0;
}

static struct error *find_absent(struct dirty_scan *scan, const struct area *area, struct ranges *absent)
{
	struct page_query query = query_for_absent(&scan->pages, area);

	while (query.start < query.end) {
		const struct page_query piece = next_piece(scan, &query);
		int r = page_scan_next(&scan->pages, &piece, &scan->regions);

		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		adapt_piece(scan, &piece, is_all_absent(&piece, &scan->regions));
		query.start = scan->regions.end;
		for (size_t i = 0; i < scan->regions.count; i++) {
			const struct uapi_page_region *region = &scan->regions.list[i];

			if (!(region->categories & UAPI_PAGE_IS_SWAPPED))
				ranges_append(absent, region->start, region->end);
		}
	}
	return NULL;
}

struct error *dirty_scan_there(pid_t pid, const struct areas *areas, struct ranges *ret_there)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;
	auto_ranges struct ranges all = {0};
	auto_ranges struct ranges absent = {0};

	TRY(dirty_scan_open(pid, &scan));
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		if (!dirty_has_pages(area))
			continue;
		ranges_append(&all, area->entry.start, area->entry.end);
		TRY(find_absent(scan, area, &absent));
	}
	*ret_there = ranges_without(&all, &absent);
	return NULL;
}
