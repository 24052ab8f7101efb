/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What /proc tells of areas in other files than maps and smaps: guard regions, NUMA policies. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/area_kind.h"
#include "memory/area_list.h"
#include "memory/page_scan.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/own.h"
#include "util/procfs.h"

/* ---- NUMA ---- */

static struct area *area_at(const struct areas *areas, uint64_t start)
{
	const struct area *area = areas_find(areas, start);

	return area && area->entry.start == start ? &areas->list[area - areas->list] : NULL;
}

/* "7f1000000000 default anon=1 …", "… bind:0 …", numa(7). It may be the policy of the thread, not of the area. */
static void mark_policy_line(const struct areas *areas, const char *line)
{
	char *policy;
	uint64_t start = strtoull(line, &policy, 16);

	if (*policy != ' ' || strncmp(policy, " default", 8) == 0)
		return;
	struct area *area = area_at(areas, start);
	if (area && area->entry.status & AREA_REGULAR)
		area->extra |= AREA_POLICY;
}

struct error *areas_mark_policies(pid_t pid, struct areas *areas)
{
	auto_free char *text = NULL;
	int r = procfs_read(pid, "numa_maps", &text, NULL);

	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return error_new(-r, "numa_maps of process %d", pid);
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n');

		mark_policy_line(areas, line);
		line = *end ? end + 1 : end;
	}
	return NULL;
}

/* ---- Guard regions ---- */

/* Appends the part [start, end) of an area to a list. */
static void append_part(struct area_list *list, const struct area *area, uint64_t start, uint64_t end, bool is_guard)
{
	struct area *part;

	if (start == end)
		return;
	part = area_list_append(list);
	*part = *area;
	part->path = area->path ? xformat("%s", area->path) : NULL;
	part->policy = NULL; /* nobody has asked yet */
	part->entry.start = start;
	part->entry.end = end;
	if (!(area->entry.flags & MAP_ANONYMOUS))
		part->entry.pgoff += start - area->entry.start;
	if (is_guard)
		part->entry.status |= AREA_GUARD;
}

enum { FIRST_STEP_BYTES = 1 << 30, GROUP_BYTES = 64 << 20 };

/* Takes over an area, in parts if there are guards in it. Steps grow where there is nothing: an area may have TBs. */
static struct error *split_area(const struct page_scan *scan, const struct area *area, struct page_regions *regions,
                                struct area_list *list)
{
	uint64_t done = area->entry.start;
	uint64_t step = FIRST_STEP_BYTES;

	for (uint64_t at = area->entry.start; at < area->entry.end; at = regions->end) {
		uint64_t left = area->entry.end - at;
		const struct page_query query = {
			.start = at,
			.end = at + (left < step ? left : step),
			.required = UAPI_PAGE_IS_GUARD,
			.returned = UAPI_PAGE_IS_GUARD,
		};
		int r = page_scan_next(scan, &query, regions);

		if (r < 0)
			return error_new(-r, "scan for guard regions at %#lx", (unsigned long)at);
		for (size_t i = 0; i < regions->count; i++) {
			append_part(list, area, done, regions->list[i].start, false);
			append_part(list, area, regions->list[i].start, regions->list[i].end, true);
			done = regions->list[i].end;
		}
		step = regions->count ? FIRST_STEP_BYTES : step * 2;
	}
	append_part(list, area, done, area->entry.end, false);
	return NULL;
}

static bool may_have_guards(const struct area *area)
{
	return !(area->entry.flags & MAP_HUGETLB) && !(area->entry.status & (AREA_VSYSCALL | AREA_VDSO | AREA_VVAR));
}

/* How many areas from the first on are asked at once whether there are guards in them. */
static size_t group_count(const struct area *list, size_t count)
{
	size_t n = 1;

	while (n < count && list[n].entry.end - list[0].entry.start <= GROUP_BYTES)
		n++;
	return n;
}

static struct error *has_guards(const struct page_scan *scan, const struct area *group, size_t count,
                                struct page_regions *regions, bool *ret_has)
{
	const struct page_query query = {
		.start = group[0].entry.start,
		.end = group[count - 1].entry.end,
		.required = UAPI_PAGE_IS_GUARD,
		.returned = UAPI_PAGE_IS_GUARD,
		.max_pages = 1,
	};
	int r = page_scan_next(scan, &query, regions);

	if (r < 0)
		return error_new(-r, "scan for guard regions at %#lx", (unsigned long)query.start);
	*ret_has = regions->count > 0;
	return NULL;
}

/* Most programs have none: then that is found out by few calls. */
static struct error *split_group(const struct page_scan *scan, const struct area *group, size_t count,
                                 struct page_regions *regions, struct area_list *list)
{
	bool has = true;

	if (count > 1)
		TRY(has_guards(scan, group, count, regions, &has));
	for (size_t i = 0; i < count; i++) {
		if (has && may_have_guards(&group[i]))
			TRY(split_area(scan, &group[i], regions, list));
		else
			append_part(list, &group[i], group[i].entry.start, group[i].entry.end, false);
	}
	return NULL;
}

struct error *areas_split_guards(pid_t pid, struct areas *areas)
{
	auto_page_scan struct page_scan scan = {.fd = -1};
	auto_areas struct areas parts = {0};
	struct area_list list = {.areas = &parts};
	auto_free struct page_regions *regions = xalloc(sizeof(*regions));

	TRY(page_scan_open(pid, &scan));
	if (!scan.knows_guards)
		return NULL;
	for (size_t i = 0, n; i < areas->count; i += n) {
		n = group_count(&areas->list[i], areas->count - i);
		TRY(split_group(&scan, &areas->list[i], n, regions, &list));
	}
	areas_free(areas);
	*areas = parts;
	parts = (struct areas){0};
	return NULL;
}
