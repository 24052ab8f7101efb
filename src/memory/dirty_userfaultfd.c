/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Written pages told by userfaultfd(2) in its asynchronous write-protect mode.
 *
 * The descriptor belongs to the address space of the program, which makes it, and is held by us alone: when its last copy
 * is closed, in whatever way, nothing of it stays in the program. Areas that are new, grown or moved aren't registered: all
 * their pages count as written, and the next beginning registers them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/dirty_scan.h"
#include "memory/page_query.h"
#include "util/alloc.h"

enum { UFFD_FLAGS = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY };

/* As in scans: mmap_lock. */
static const uint64_t piece_bytes = UINT64_C(64) << 20;

struct dirty {
	pid_t pid;
	int uffd;                 /* owned */
	struct ranges registered; /* for the end */
	bool is_kept;             /* by another process, beyond our end */
	bool has_begun;           /* there may be marks of protection from a round before */
};

static struct error *enable(int uffd)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UAPI_UFFD_FEATURE_WP_ASYNC | UAPI_UFFD_FEATURE_WP_UNPOPULATED,
	};

	if (ioctl(uffd, UFFDIO_API, &api) < 0)
		return error_hint(
			error_new(errno, "ioctl(UFFDIO_API)"),
			"tracking written pages by userfaultfd needs Linux 6.7 with CONFIG_PTE_MARKER_UFFD_WP");
	return NULL;
}

static struct dirty *new_dirty(pid_t pid, int fd)
{
	struct dirty *dirty = xalloc(sizeof(*dirty));

	dirty->pid = pid;
	dirty->uffd = fd;
	return dirty;
}

static struct error *begin(struct process *process, struct dirty **ret_dirty)
{
	auto_batch struct batch *batch = process_batch(process, process_caller(process));
	struct arg made = batch_call(batch, userfaultfd, val(UFFD_FLAGS));
	auto_fd int fd = -1;

	TRY(process_make_fd(process, batch, made, &fd));
	TRY(enable(fd));
	*ret_dirty = new_dirty(process->pid, take(fd));
	return NULL;
}

/* Slow, 50 ms per GB: the kernel takes off the protection. */
static void unregister(const struct dirty *dirty, uint64_t start, uint64_t end)
{
	uint64_t size_bytes;

	/* Never beyond the end: that of [vsyscall] is 10 MB below the last address. */
	for (uint64_t at = start; at < end; at += size_bytes) {
		size_bytes = end - at < piece_bytes ? end - at : piece_bytes;
		struct uffdio_range piece = {.start = at, .len = size_bytes};

		/* What isn't mapped any more has nothing to be taken off; where the program has ended, nothing has. */
		if (ioctl(dirty->uffd, UFFDIO_UNREGISTER, &piece) < 0 && errno == ENOMEM)
			return;
	}
}

static void end(struct dirty *dirty)
{
	for (size_t i = 0; !dirty->is_kept && i < dirty->registered.count; i++)
		unregister(dirty, dirty->registered.list[i].start, dirty->registered.list[i].end);
	if (dirty->uffd >= 0)
		close(dirty->uffd);
	ranges_free(&dirty->registered);
	free(dirty);
}

static int keep(struct dirty *dirty)
{
	dirty->is_kept = true;
	return dirty->uffd;
}

/* Whoever keeps it doesn't know which areas were registered. */
static void keep_end(pid_t pid, int fd)
{
	struct dirty *dirty = new_dirty(pid, fd);
	struct areas areas;
	struct error *error = areas_read(pid, &areas);

	for (size_t i = 0; !error && i < areas.count; i++)
		unregister(dirty, areas.list[i].entry.start, areas.list[i].entry.end);
	if (!error)
		areas_free(&areas);
	/* Then the kernel does it all at once, when the descriptor is closed. */
	error_free(error);
	end(dirty);
}

static struct dirty *adopt(pid_t pid, int fd)
{
	struct dirty *dirty = new_dirty(pid, fd);

	dirty->is_kept = true;
	dirty->has_begun = true;
	return dirty;
}

/*
 * An area that was registered may have become one that isn't, with the marks of protection still on its pages: when the
 * kernel joins it with one that is moved next to it (mremap(2)). Then its pages are written without a trace, and no scan
 * would protect them again.
 */
static void forget_marks(const struct dirty *dirty, const struct area *area)
{
	for (uint64_t at = area->entry.start; at < area->entry.end; at += piece_bytes) {
		uint64_t left = area->entry.end - at;
		struct uffdio_writeprotect none = {
			.range = {.start = at, .len = left < piece_bytes ? left : piece_bytes}};

		ioctl(dirty->uffd, UFFDIO_WRITEPROTECT, &none);
	}
}

/* False: it can't be registered, so all its pages count as written, always. */
static bool register_area(struct dirty *dirty, const struct area *area)
{
	struct uffdio_register request = {
		.range = {.start = area->entry.start, .len = area->entry.end - area->entry.start},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	auto_ranges struct ranges added = {0};

	if (ioctl(dirty->uffd, UFFDIO_REGISTER, &request) < 0)
		return false;
	if (dirty->has_begun)
		forget_marks(dirty, area);
	ranges_append(&added, area->entry.start, area->entry.end);
	ranges_unite(&dirty->registered, &added);
	return true;
}

static struct page_query query_for(struct dirty_scan *scan, const struct area *area, const struct range *part,
                                   const struct look *look)
{
	struct page_query query = page_query_for(&scan->pages, area);

	/* A protected page of a private file that was given back (MADV_DONTNEED) leaves a marker, which looks like a
	 * page that was swapped out unchanged. */
	scan->doubts_swapped = area_content(area) == AREA_CONTENT_PRIVATE_FILE;
	/* A huge page that is given back while a round reads it is made anew by that very reading, and counts as
	 * protected: a part of it that was read before stays as it was over there. Only the last look can be believed. */
	scan->doubts_all = (area->entry.flags & MAP_HUGETLB) && !look->is_beginning;
	query.start = part->start;
	query.end = part->end;
	query.returned = UAPI_PAGE_IS_WRITTEN | (scan->doubts_swapped ? UAPI_PAGE_IS_PRESENT : 0);
	query.flags = UAPI_PM_SCAN_CHECK_WPASYNC | (look->is_beginning ? UAPI_PM_SCAN_WP_MATCHING : 0);
	if (look->is_beginning || !(look->ret_there || scan->doubts_swapped || scan->doubts_all))
		query.required = UAPI_PAGE_IS_WRITTEN;
	return query;
}

/*
 * The scan has come to where nothing is registered (yet, or any more). What it has protected before, in the same piece,
 * it hasn't told; and pages that were moved here may be protected since they were elsewhere (before Linux 6.14). So from
 * there on all pages count as written.
 */
static void scan_unregistered(struct dirty *dirty, struct dirty_scan *scan, const struct area *area,
                              struct page_query *query, bool is_beginning)
{
	bool is_first = !scan->doubts_all;

	scan->doubts_all = true;
	query->required = 0;
	if (!is_beginning || !is_first || !register_area(dirty, area))
		query->flags = 0;
}

/* A part of an area that is to be scanned in one way. */
static struct error *scan_part(struct dirty *dirty, struct dirty_scan *scan, const struct area *area,
                               const struct range *part, const struct look *look)
{
	struct page_query query = query_for(scan, area, part, look);

	while (query.start < query.end) {
		int r = dirty_scan_piece(scan, &query, UAPI_PAGE_IS_WRITTEN, look);

		if (r == 0)
			continue;
		if (r != -EPERM)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		scan_unregistered(dirty, scan, area, &query, look->is_beginning);
	}
	return NULL;
}

static struct error *scan_area(struct dirty *dirty, struct dirty_scan *scan, const struct area *area,
                               const struct look *look)
{
	auto_ranges struct ranges whole = {0};

	ranges_append(&whole, area->entry.start, area->entry.end);
	auto_ranges struct ranges parts =
		ranges_without(&whole, look->except ? look->except : &(const struct ranges){0});
	for (size_t i = 0; i < parts.count; i++)
		TRY(scan_part(dirty, scan, area, &parts.list[i], look));
	return NULL;
}

static struct error *scan_areas(struct dirty *dirty, struct dirty_scan *scan, const struct look *look)
{
	for (size_t i = 0; i < look->areas->count; i++)
		if (dirty_has_pages(&look->areas->list[i]))
			TRY(scan_area(dirty, scan, &look->areas->list[i], look));
	return NULL;
}

/*
 * To begin anew only what was written is touched, so what is there is looked for beforehand. A page that is new in
 * between is one that was written.
 */
static struct error *look_at_pages(struct dirty *dirty, const struct look *look)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;
	auto_ranges struct ranges ignored = {0};
	const struct look before = {.areas = look->areas, .ret_there = look->ret_there, .ret_written = &ignored};
	struct look now = *look;

	TRY(dirty_scan_open(dirty->pid, &scan));
	if (!look->is_beginning)
		return scan_areas(dirty, scan, look);
	if (look->ret_there)
		TRY(scan_areas(dirty, scan, &before));
	now.ret_there = NULL;
	TRY(scan_areas(dirty, scan, &now));
	dirty->has_begun = true;
	if (look->ret_there)
		ranges_unite(look->ret_there, look->ret_written);
	return NULL;
}

/* ---- The last look ---- */

/* While it is made. */
struct last {
	struct dirty_scan *scan;
	uint64_t not_own; /* categories of pages in the present area that aren't content of its own */
	struct ranges *written;
	struct ranges absent;
};

/* All pages but those that are there and not written: these are many, and are told in few regions anyway. */
static struct page_query query_for_last(struct last *last, const struct area *area)
{
	struct page_query query = page_query_for(&last->scan->pages, area);

	last->not_own = query.excluded;
	last->scan->doubts_swapped = area_content(area) == AREA_CONTENT_PRIVATE_FILE;
	last->scan->doubts_all = area->entry.flags & MAP_HUGETLB;
	query.any = last->scan->doubts_all ? 0 : query.excluded | UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_WRITTEN;
	query.inverted = last->scan->doubts_all ? 0 : UAPI_PAGE_IS_PRESENT;
	query.returned = query.excluded | UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED | UAPI_PAGE_IS_WRITTEN;
	query.excluded = 0;
	query.flags = UAPI_PM_SCAN_CHECK_WPASYNC;
	return query;
}

static void sort_region(struct last *last, const struct uapi_page_region *region)
{
	bool is_present = region->categories & UAPI_PAGE_IS_PRESENT;
	bool is_swapped = region->categories & UAPI_PAGE_IS_SWAPPED;
	bool is_own = (is_present || is_swapped) && !(region->categories & last->not_own);
	bool is_doubtful = last->scan->doubts_all || (last->scan->doubts_swapped && !is_present);

	if (!is_own && !is_swapped)
		ranges_append(&last->absent, region->start, region->end);
	if (is_own && (is_doubtful || region->categories & UAPI_PAGE_IS_WRITTEN))
		ranges_append(last->written, region->start, region->end);
}

static struct error *scan_last(struct last *last, const struct area *area)
{
	struct page_query query = query_for_last(last, area);
	const struct page_regions *regions = &last->scan->regions;

	while (query.start < query.end) {
		int r = dirty_scan_step(last->scan, &query);

		if (r == -EPERM && query.flags) { /* as in scan_unregistered() */
			last->scan->doubts_all = true;
			query.any = query.inverted = query.flags = 0;
			continue;
		}
		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		for (size_t i = 0; i < regions->count; i++)
			sort_region(last, &regions->list[i]);
	}
	return NULL;
}

static struct error *look_last(struct dirty *dirty, const struct look *look)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;
	auto_ranges struct ranges all = {0};
	struct last last = {.written = look->ret_written};
	struct error *error = NULL;

	TRY(dirty_scan_open(dirty->pid, &scan));
	last.scan = scan;
	for (size_t i = 0; !error && i < look->areas->count; i++) {
		const struct area *area = &look->areas->list[i];

		if (!dirty_has_pages(area))
			continue;
		ranges_append(&all, area->entry.start, area->entry.end);
		error = scan_last(&last, area);
	}
	*look->ret_there = ranges_without(&all, &last.absent);
	ranges_free(&last.absent);
	return error;
}

const struct dirty_way dirty_userfaultfd = {
	.name = "userfaultfd",
	.knows_shared = true,
	.misses_devices = true,
	.begin = begin,
	.look = look_at_pages,
	.look_last = look_last,
	.end = end,
	.keep = keep,
	.keep_end = keep_end,
	.adopt = adopt,
};
