/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/page_scan.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/negative_errno.h"
#include "util/own.h"

static int scan_nothing(int fd, uint64_t category)
{
	struct uapi_pm_scan_arg arg = {.size = sizeof(arg), .category_mask = category, .return_mask = category};

	return ioctl(fd, UAPI_PAGEMAP_SCAN, &arg) < 0 ? negative_errno() : 0;
}

struct error *page_scan_open(pid_t pid, struct page_scan *ret_scan)
{
	auto_free char *path = xformat("/proc/%d/pagemap", pid);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "open(%s)", path);
	*ret_scan = (struct page_scan){
		.has_ioctl = scan_nothing(fd, UAPI_PAGE_IS_PRESENT) == 0,
		.knows_guards = scan_nothing(fd, UAPI_PAGE_IS_GUARD) == 0,
	};
	ret_scan->fd = take(fd);
	return NULL;
}

void page_scan_close(struct page_scan *scan)
{
	if (scan->fd >= 0)
		close(scan->fd);
	scan->fd = -1;
}

/* ---- The ioctl ---- */

/* "None of excluded" is "all of them, inverted". */
static int scan_by_ioctl(const struct page_scan *scan, const struct page_query *query, struct page_regions *ret_regions)
{
	struct uapi_pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = query->flags,
		.start = query->start,
		.end = query->end,
		.vec = (uint64_t)(uintptr_t)ret_regions->list,
		.vec_len = PAGE_REGIONS_MAX,
		.max_pages = query->max_pages,
		.category_inverted = query->excluded | query->inverted,
		.category_mask = query->required | query->excluded,
		.category_anyof_mask = query->any,
		.return_mask = query->returned,
	};
	int count;

	do
		count = ioctl(scan->fd, UAPI_PAGEMAP_SCAN, &arg);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return negative_errno();
	ret_regions->count = (size_t)count;
	ret_regions->end = arg.walk_end;
	return 0;
}

/* ---- The entries ---- */

#define ENTRY_SOFT_DIRTY (UINT64_C(1) << 55)
#define ENTRY_WP (UINT64_C(1) << 57)    /* 5.13 */
#define ENTRY_GUARD (UINT64_C(1) << 58) /* 6.15 */
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PRESENT (UINT64_C(1) << 63)

uint64_t pagemap_entry_categories(uint64_t entry)
{
	uint64_t categories = 0;

	if (entry & ENTRY_PRESENT)
		categories |= UAPI_PAGE_IS_PRESENT;
	if (entry & ENTRY_SWAPPED)
		categories |= UAPI_PAGE_IS_SWAPPED;
	if (entry & ENTRY_FILE)
		categories |= UAPI_PAGE_IS_FILE;
	if (entry & ENTRY_SOFT_DIRTY)
		categories |= UAPI_PAGE_IS_SOFT_DIRTY;
	if (entry & ENTRY_GUARD)
		categories |= UAPI_PAGE_IS_GUARD;
	if (categories && !(entry & ENTRY_WP))
		categories |= UAPI_PAGE_IS_WRITTEN;
	return categories;
}

static bool is_wanted(const struct page_query *query, uint64_t categories)
{
	return (categories & query->required) == query->required && (categories & query->excluded) == 0 &&
	       (query->any == 0 || ((categories ^ query->inverted) & query->any) != 0);
}

/* False: there is no room. */
static bool add_page(struct page_regions *regions, uint64_t address, uint64_t categories)
{
	struct uapi_page_region *last = regions->count ? &regions->list[regions->count - 1] : NULL;

	if (last && last->end == address && last->categories == categories) {
		last->end += PAGE_BYTES;
		return true;
	}
	if (regions->count == PAGE_REGIONS_MAX)
		return false;
	regions->list[regions->count++] = (struct uapi_page_region){address, address + PAGE_BYTES, categories};
	return true;
}

enum { ENTRIES_AT_ONCE = 2048 };

static int scan_by_entries(const struct page_scan *scan, const struct page_query *query,
                           struct page_regions *ret_regions)
{
	uint64_t entries[ENTRIES_AT_ONCE];
	uint64_t pages = 0;

	ret_regions->count = 0;
	for (uint64_t at = query->start; at < query->end;) {
		uint64_t left = (query->end - at) / PAGE_BYTES;
		size_t wanted = left < ENTRIES_AT_ONCE ? left : ENTRIES_AT_ONCE;
		ssize_t n = pread(scan->fd, entries, wanted * sizeof(entries[0]),
		                  (off_t)(at / PAGE_BYTES * sizeof(entries[0])));

		if (n < (ssize_t)sizeof(entries[0]))
			return n < 0 ? negative_errno() : -ESRCH;
		for (size_t i = 0; i < (size_t)n / sizeof(entries[0]); i++, at += PAGE_BYTES) {
			uint64_t categories = pagemap_entry_categories(entries[i]);

			ret_regions->end = at;
			if (!is_wanted(query, categories))
				continue;
			if ((query->max_pages && pages == query->max_pages) ||
			    !add_page(ret_regions, at, categories & query->returned))
				return 0;
			pages++;
		}
	}
	ret_regions->end = query->end;
	return 0;
}

int page_scan_next(const struct page_scan *scan, const struct page_query *query, struct page_regions *ret_regions)
{
	return scan->has_ioctl ? scan_by_ioctl(scan, query, ret_regions) : scan_by_entries(scan, query, ret_regions);
}
