/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/page_query.h"
#include "memory/probes.h"
#include "util/alloc.h"
#include "util/error.h"

enum { BREAKPOINT = 0xcc }; /* int3 */

struct looking {
	pid_t pid;
	struct page_scan scan;
	struct page_regions *regions; /* owned */
	int mem_fd;                   /* owned */
};

static void looking_free(struct looking *looking)
{
	page_scan_close(&looking->scan);
	free(looking->regions);
	if (looking->mem_fd >= 0)
		close(looking->mem_fd);
}

/* Code that nobody writes: just-in-time compilers change theirs in areas of their own. */
static bool is_code(const struct area *area)
{
	return area->entry.status & AREA_FILE_PRIVATE && area->entry.prot & PROT_EXEC &&
	       !(area->entry.prot & PROT_WRITE) && !area_maps_memfd(area);
}

static bool has_breakpoint(const uint8_t *memory, const uint8_t *file)
{
	bool has_any = false;

	for (size_t i = 0; i < PAGE_BYTES; i++) {
		if (memory[i] == file[i])
			continue;
		if (memory[i] != BREAKPOINT)
			return false;
		has_any = true;
	}
	return has_any;
}

/* A page that the program has of its own. What can't be read has gone meanwhile. */
static struct error *look_at_page(const struct looking *looking, const struct area *area, int file_fd, uint64_t address)
{
	uint8_t memory[PAGE_BYTES];
	uint8_t file[PAGE_BYTES] = {0};

	if (pread(looking->mem_fd, memory, PAGE_BYTES, (off_t)address) != PAGE_BYTES ||
	    pread(file_fd, file, PAGE_BYTES, (off_t)(address - area->entry.start + area->entry.pgoff)) <= 0 ||
	    !has_breakpoint(memory, file))
		return NULL;
	return error_hint(error_new(ENOTSUP,
	                            "memory %#" PRIx64 " %s: a breakpoint: somebody traces this program with "
	                            "uprobes, or did so with a debugger",
	                            address, area->path),
	                  "end the tracer: bpftrace, perf probe --del, or what else has set it");
}

static struct error *look_at_pages(const struct looking *looking, const struct area *area, int file_fd)
{
	for (size_t i = 0; i < looking->regions->count; i++) {
		const struct uapi_page_region *region = &looking->regions->list[i];

		for (uint64_t at = region->start; at < region->end; at += PAGE_BYTES)
			TRY(look_at_page(looking, area, file_fd, at));
	}
	return NULL;
}

static struct error *look_at_area(const struct looking *looking, const struct area *area)
{
	struct page_query query = page_query_for(&looking->scan, area);
	auto_free char *path =
		xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, looking->pid, area->vma_start, area->vma_end);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && query.start < query.end) {
		if (page_scan_next(&looking->scan, &query, looking->regions) < 0)
			return NULL; /* it has gone */
		TRY(look_at_pages(looking, area, fd));
		query.start = looking->regions->end;
	}
	return NULL;
}

struct error *probes_check(pid_t pid, const struct areas *areas)
{
	auto_free char *path = xformat("/proc/%d/mem", pid);
	__attribute__((cleanup(looking_free))) struct looking looking = {
		.pid = pid,
		.scan.fd = -1,
		.regions = xalloc(sizeof(struct page_regions)),
		.mem_fd = open(path, O_RDONLY | O_CLOEXEC),
	};

	if (looking.mem_fd < 0)
		return error_new(errno, "open(%s)", path);
	TRY(page_scan_open(pid, &looking.scan));
	for (size_t i = 0; i < areas->count; i++)
		if (is_code(&areas->list[i]))
			TRY(look_at_area(&looking, &areas->list[i]));
	return NULL;
}
