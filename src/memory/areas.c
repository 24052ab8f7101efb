/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/area_kind.h"
#include "memory/area_list.h"
#include "memory/areas.h"
#include "memory/maps.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/own.h"
#include "util/problems.h"
#include "util/procfs.h"

/* ---- Lists ---- */

static void area_free(struct area *area)
{
	free(area->path);
	free(area->policy);
}

void areas_free(struct areas *areas)
{
	for (size_t i = 0; i < areas->count; i++)
		area_free(&areas->list[i]);
	free(areas->list);
	*areas = (struct areas){0};
}

/* The first area that ends behind address; areas->count: there is none. */
static size_t find_index(const struct areas *areas, uint64_t address)
{
	size_t low = 0;
	size_t high = areas->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (areas->list[middle].entry.end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct area *areas_find(const struct areas *areas, uint64_t address)
{
	size_t index = find_index(areas, address);

	return index < areas->count && areas->list[index].entry.start <= address ? &areas->list[index] : NULL;
}

static void remove_range(struct areas *areas, struct procfs_range range)
{
	size_t kept = 0;

	for (size_t i = 0; i < areas->count; i++) {
		struct area *area = &areas->list[i];

		if (area->entry.start >= range.start && area->entry.end <= range.end)
			area_free(area);
		else
			areas->list[kept++] = *area;
	}
	areas->count = kept;
}

enum area_content area_content(const struct area *area)
{
	uint32_t status = area->entry.status;

	if (status & AREA_VDSO)
		return AREA_CONTENT_VDSO;
	if (status & (AREA_GUARD | AREA_VSYSCALL | AREA_VVAR) || area->extra & AREA_DROPPABLE)
		return AREA_CONTENT_NONE;
	if (area->is_shared_memory)
		return AREA_CONTENT_SHARED;
	if (status & AREA_FILE_SHARED)
		return AREA_CONTENT_NONE;
	return status & AREA_FILE_PRIVATE ? AREA_CONTENT_PRIVATE_FILE : AREA_CONTENT_ANONYMOUS;
}

bool area_maps_memfd(const struct area *area)
{
	return area->entry.status & AREA_MEMFD;
}

static bool is_same_text(const char *text, const char *other)
{
	return text == other || (text && other && strcmp(text, other) == 0);
}

bool area_is_like(const struct area *area, const struct area *other)
{
	const VmaEntry *entry = &area->entry;
	const VmaEntry *other_entry = &other->entry;

	if (area->device != other->device || area->inode != other->inode ||
	    (entry->flags & MAP_SHARED) != (other_entry->flags & MAP_SHARED))
		return false;
	if (area->inode == 0)
		return is_same_text(area->path, other->path);
	return entry->pgoff - entry->start == other_entry->pgoff - other_entry->start;
}

/* What mprotect(2) and madvise(2) can't change. */
static bool is_same_kind(const VmaEntry *entry, const VmaEntry *other)
{
	const uint32_t flags = MAP_GROWSDOWN | MAP_HUGETLB | MAP_NORESERVE;

	return (entry->flags & flags) == (other->flags & flags) && entry->status == other->status;
}

struct ranges areas_gone(const struct areas *before, const struct areas *now)
{
	struct ranges all = {0};
	struct ranges kept = {0};

	for (size_t i = 0; i < before->count; i++) {
		const struct area *area = &before->list[i];

		if (!(area->entry.status & (AREA_VDSO | AREA_VVAR | AREA_VSYSCALL)))
			ranges_append(&all, area->entry.start, area->entry.end);
		for (size_t j = find_index(now, area->entry.start); j < now->count; j++) {
			const struct area *other = &now->list[j];

			if (other->entry.start >= area->entry.end)
				break;
			if (!area_is_like(area, other) || area->is_deleted != other->is_deleted ||
			    !is_same_kind(&area->entry, &other->entry))
				continue;
			uint64_t start =
				area->entry.start > other->entry.start ? area->entry.start : other->entry.start;
			uint64_t end = area->entry.end < other->entry.end ? area->entry.end : other->entry.end;
			ranges_append(&kept, start, end);
		}
	}
	struct ranges gone = ranges_without(&all, &kept);
	ranges_free(&all);
	ranges_free(&kept);
	return gone;
}

/* ---- Refusing ---- */

void areas_check(const struct areas *areas, struct problems *problems)
{
	for (size_t i = 0; i < areas->count; i++)
		problems_add(problems, area_trouble_error(&areas->list[i]));
}

static struct error *check_troubles(pid_t pid, const struct areas *areas)
{
	auto_problems struct problems problems = {0};

	areas_check(areas, &problems);
	return problems_error(&problems, "process %d has memory that can't be carried:", pid);
}

/* ---- smaps ---- */

/* Calls for each area of smaps in turn; ends the reading when it returns false. Owns area's path from then on. */
struct smaps_visitor {
	bool (*visit)(struct smaps_visitor *visitor, struct area *area);
};

static struct error *read_smaps_lines(FILE *file, struct smaps_visitor *visitor)
{
	auto_free char *line = NULL;
	size_t room = 0;
	struct area area = {0};
	bool has_area = false;

	for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		if (!smaps_is_area(line)) {
			if (has_area)
				smaps_parse_attribute(line, &area);
			continue;
		}
		if (has_area && !visitor->visit(visitor, &area))
			return NULL;
		has_area = maps_parse_line(line, &area) == 0;
		if (!has_area)
			return error_new(EINVAL, "line \"%s\"", line);
	}
	if (has_area)
		visitor->visit(visitor, &area);
	return ferror(file) ? error_new(errno, "read") : NULL;
}

static struct error *read_smaps(pid_t pid, struct smaps_visitor *visitor)
{
	auto_free char *path = xformat("/proc/%d/smaps", pid);
	auto_file FILE *file = fopen(path, "re");

	if (!file)
		return error_new(errno, "open(%s)", path);
	TRY(read_smaps_lines(file, visitor), "%s", path);
	return NULL;
}

struct collector {
	struct smaps_visitor visitor;
	struct area_list list;
	const struct area_kinds *kinds;
};

/* Areas may change between two reads of a running program's list, and then overlap: the first one told counts. */
static void append(struct area_list *list, struct area *area)
{
	const struct areas *areas = list->areas;
	uint64_t end = areas->count ? areas->list[areas->count - 1].entry.end : 0;

	if (area->entry.end <= end) {
		free(area->path);
		return;
	}
	if (area->entry.start < end) {
		area->entry.pgoff += area->inode ? end - area->entry.start : 0;
		area->entry.start = end;
	}
	*area_list_append(list) = *area;
}

static bool collect(struct smaps_visitor *visitor, struct area *area)
{
	struct collector *collector = (struct collector *)(void *)visitor;

	area_kinds_complete(collector->kinds, area);
	append(&collector->list, area);
	return true;
}

struct error *areas_read(pid_t pid, struct areas *ret_areas)
{
	auto_areas struct areas areas = {0};
	struct area_kinds kinds;

	TRY(area_kinds_new(pid, &kinds));
	struct collector collector = {.visitor.visit = collect, .list.areas = &areas, .kinds = &kinds};
	TRY(read_smaps(pid, &collector.visitor));
	TRY(areas_mark_policies(pid, &areas));
	TRY(areas_split_guards(pid, &areas));
	*ret_areas = areas;
	areas = (struct areas){0};
	return NULL;
}

/* ---- Once more ---- */

static struct error *read_maps(pid_t pid, struct areas *areas)
{
	auto_free char *text = NULL;
	struct area_list list = {.areas = areas};
	int r = procfs_read(pid, "maps", &text, NULL);

	if (r < 0)
		return error_new(-r, "maps of process %d", pid);
	for (char *line = text; *line;) {
		char *end = strchrnul(line, '\n');
		char *next = *end ? end + 1 : end;
		struct area area;

		*end = '\0';
		if (maps_parse_line(line, &area) < 0)
			return error_new(EINVAL, "maps of process %d: \"%s\"", pid, line);
		append(&list, &area);
		line = next;
	}
	return NULL;
}

static void take_attributes(struct area *area, const struct area *from)
{
	area->entry.flags = from->entry.flags & ~(uint32_t)MAP_ANONYMOUS;
	area->entry.has_madv = from->entry.has_madv;
	area->entry.madv = from->entry.madv;
	area->may_write = from->may_write;
	area->trouble = from->trouble;
	area->extra = from->extra;
}

/* The kernel merges only areas whose attributes are equal, so any overlapping part will do. */
static bool find_attributes(const struct areas *known, struct area *area)
{
	for (size_t i = find_index(known, area->entry.start); i < known->count; i++) {
		const struct area *candidate = &known->list[i];

		if (candidate->entry.start >= area->entry.end)
			return false;
		if (area_is_like(area, candidate)) {
			take_attributes(area, candidate);
			return true;
		}
	}
	return false;
}

struct lookup {
	struct smaps_visitor visitor;
	struct areas *areas;
	const bool *is_unknown; /* for each of areas */
	size_t next, left;
};

static bool look_up(struct smaps_visitor *visitor, struct area *area)
{
	struct lookup *lookup = (struct lookup *)(void *)visitor;
	struct areas *areas = lookup->areas;

	free(area->path);
	while (lookup->next < areas->count && areas->list[lookup->next].entry.start < area->entry.start)
		lookup->next++;
	if (lookup->next < areas->count && areas->list[lookup->next].entry.start == area->entry.start &&
	    lookup->is_unknown[lookup->next]) {
		take_attributes(&areas->list[lookup->next], area);
		areas->list[lookup->next].extra |= AREA_POLICY; /* it takes long to look who has one */
		lookup->left--;
	}
	return lookup->left > 0;
}

/* NOLINTBEGIN(clang-analyzer-unix.Malloc): it doesn't see that auto_free frees is_unknown */
static struct error *complete_all(pid_t pid, const struct areas *known, struct areas *areas)
{
	auto_free bool *is_unknown = calloc(areas->count + 1, sizeof(bool));
	struct lookup lookup = {.visitor.visit = look_up, .areas = areas, .is_unknown = is_unknown};
	struct area_kinds kinds;

	if (!is_unknown)
		return error_new(ENOMEM, "%zu areas", areas->count);
	TRY(area_kinds_new(pid, &kinds));
	for (size_t i = 0; i < areas->count; i++) {
		is_unknown[i] = !find_attributes(known, &areas->list[i]);
		lookup.left += is_unknown[i];
	}
	if (lookup.left > 0)
		TRY(read_smaps(pid, &lookup.visitor));
	for (size_t i = 0; i < areas->count; i++)
		area_kinds_complete(&kinds, &areas->list[i]);
	return NULL;
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

struct error *areas_refresh(pid_t pid, const struct areas *known, const struct procfs_range *hidden,
                            size_t hidden_count, struct areas *ret_areas)
{
	auto_areas struct areas areas = {0};

	TRY(read_maps(pid, &areas));
	for (size_t i = 0; i < hidden_count; i++)
		remove_range(&areas, hidden[i]);
	TRY(complete_all(pid, known, &areas));
	TRY(check_troubles(pid, &areas));
	TRY(areas_split_guards(pid, &areas));
	*ret_areas = areas;
	areas = (struct areas){0};
	return NULL;
}

/* ---- mlockall(2) ---- */

struct stub_lookup {
	struct smaps_visitor visitor;
	uint64_t start;
	uint32_t flags;
};

static bool look_at_stub(struct smaps_visitor *visitor, struct area *area)
{
	struct stub_lookup *lookup = (struct stub_lookup *)(void *)visitor;

	free(area->path);
	if (area->entry.start <= lookup->start && area->entry.end > lookup->start)
		lookup->flags = area->entry.flags;
	return area->entry.end <= lookup->start;
}

struct error *areas_lock_future(pid_t pid, const struct areas *areas, const struct procfs_range *hidden,
                                uint64_t locked_bytes, uint32_t *ret_flags)
{
	struct stub_lookup lookup = {.visitor.visit = look_at_stub, .start = hidden->start};
	uint64_t known_bytes = 0;

	*ret_flags = 0;
	for (size_t i = 0; i < areas->count; i++)
		if (areas->list[i].entry.flags & MAP_LOCKED)
			known_bytes += areas->list[i].entry.end - areas->list[i].entry.start;
	/* Most programs end here: nothing but what they have locked themselves. */
	if (locked_bytes <= known_bytes)
		return NULL;
	TRY(read_smaps(pid, &lookup.visitor));
	if (lookup.flags & MAP_LOCKED)
		*ret_flags = MCL_FUTURE | (lookup.flags & MAP_NONBLOCK ? MCL_ONFAULT : 0);
	return NULL;
}
