/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Written pages told by their soft-dirty bit: Linux's admin-guide/mm/soft-dirty, admin-guide/mm/pagemap.
 *
 * Writing 4 to clear_refs clears the bits of all pages; a write sets a page's again, and the pages of a new area have
 * it. A kernel built without it takes the 4 as well and does nothing, so a page of our own shows whether it is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/dirty_scan.h"
#include "util/alloc.h"

struct dirty {
	pid_t pid;
};

static struct error *clear(pid_t pid)
{
	auto_free char *path = xformat("/proc/%d/clear_refs", pid);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "4", 1) != 1)
		return error_new(errno, "write 4 to %s", path);
	return NULL;
}

/* Has a page that was just written the bit? */
static struct error *probe_page(const char *page, bool *ret_has_bit)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;
	const struct page_query query = {
		.start = (uintptr_t)page,
		.end = (uintptr_t)page + PAGE_BYTES,
		.required = UAPI_PAGE_IS_SOFT_DIRTY,
		.returned = UAPI_PAGE_IS_SOFT_DIRTY,
	};

	TRY(dirty_scan_open(getpid(), &scan));
	int r = page_scan_next(&scan->pages, &query, &scan->regions);
	if (r < 0)
		return error_new(-r, "scan of a page of our own");
	*ret_has_bit = scan->regions.count > 0;
	return NULL;
}

static struct error *probe(void)
{
	char *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has_bit = false;

	if (page == MAP_FAILED)
		return error_new(errno, "mmap");
	memset(page, 1, PAGE_BYTES);
	struct error *error = probe_page(page, &has_bit);
	munmap(page, PAGE_BYTES);
	if (error || has_bit)
		return error;
	return error_hint(error_new(EOPNOTSUPP, "this kernel has no soft-dirty bits"),
	                  "a kernel with CONFIG_MEM_SOFT_DIRTY has them; --track userfaultfd or hash do without");
}

static struct dirty *adopt(pid_t pid, int fd)
{
	struct dirty *dirty = xalloc(sizeof(*dirty));

	(void)fd;
	dirty->pid = pid;
	return dirty;
}

static struct error *begin(struct process *process, struct dirty **ret_dirty)
{
	TRY(probe());
	*ret_dirty = adopt(process->pid, -1);
	return NULL;
}

static struct error *scan(const struct dirty *dirty, const struct look *look)
{
	auto_dirty_scan struct dirty_scan *scan = NULL;

	TRY(dirty_scan_open(dirty->pid, &scan));
	return dirty_scan_areas(scan, UAPI_PAGE_IS_SOFT_DIRTY, look);
}

/* Bits are cleared for all pages at once; those that are excepted are known to whoever excepts them. */
static struct error *scan_and_clear(const struct dirty *dirty, const struct look *look)
{
	auto_process struct process *process = NULL;
	auto_ranges struct ranges all = {0};
	const struct look whole = {.areas = look->areas, .ret_there = look->ret_there, .ret_written = &all};

	TRY(process_seize(dirty->pid, &process));
	TRY(process_stop(process));
	struct error *error = scan(dirty, &whole);
	if (!error)
		error = clear(dirty->pid);
	error = error_join(error, process_thaw(process));
	if (!error)
		*look->ret_written = ranges_without(&all, look->except ? look->except : &(const struct ranges){0});
	return error;
}

static struct error *look_at_pages(struct dirty *dirty, const struct look *look)
{
	return look->is_beginning ? scan_and_clear(dirty, look) : scan(dirty, look);
}

static void end(struct dirty *dirty)
{
	free(dirty);
}

/* The bits are the kernel's. */
static int keep(struct dirty *dirty)
{
	(void)dirty;
	return -1;
}

const struct dirty_way dirty_soft = {
	.name = "soft-dirty",
	.begin = begin,
	.look = look_at_pages,
	.end = end,
	.keep = keep,
	.adopt = adopt,
};
