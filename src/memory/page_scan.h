/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Which pages of a range are there, swapped, written …: the PAGEMAP_SCAN ioctl, or the entries of /proc/PID/pagemap
 * where the kernel has no such call (before Linux 6.7).
 *
 * The kernel holds mmap_lock for the length of a scan, and the program's own mmap(2) waits. So scans go in pieces.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/attributes.h"
#include "util/uapi.h"

struct error;

struct page_scan {
	int fd; /* owned: /proc/PID/pagemap; it stays with the address space, whatever becomes of the PID */
	bool has_ioctl;
	bool knows_guards; /* Linux 6.15 */
};

MUST_USE struct error *page_scan_open(pid_t pid, struct page_scan *ret_scan);
void page_scan_close(struct page_scan *scan);
/* Begin with {.fd = -1}. */
#define auto_page_scan __attribute__((cleanup(page_scan_close)))

/* Pages that have all of required, one of any (if that is not 0; of those in any and inverted they lack it), and none of
 * excluded: UAPI_PAGE_IS_*. */
struct page_query {
	uint64_t start, end;
	uint64_t required, any, inverted, excluded;
	uint64_t returned;  /* which categories are told; neighbours with equal ones are one region */
	uint64_t flags;     /* UAPI_PM_SCAN_*; only where there is the ioctl */
	uint64_t max_pages; /* 0: no limit */
};

enum { PAGE_REGIONS_MAX = 512 };
struct page_regions {
	struct uapi_page_region list[PAGE_REGIONS_MAX]; /* ascending */
	size_t count;
	uint64_t end; /* how far it has come: the next scan begins here */
};

/* One piece, from query->start as far as there is room in ret_regions. Returns 0 or a negative errno: EPERM where an
 * area is not registered for write-protection and UAPI_PM_SCAN_CHECK_WPASYNC was given. */
int page_scan_next(const struct page_scan *scan, const struct page_query *query, struct page_regions *ret_regions);

/* The categories that an entry of /proc/PID/pagemap tells of: admin-guide/mm/pagemap. */
uint64_t pagemap_entry_categories(uint64_t entry);
