/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "image/pages.h"
#include "memory/page_query.h"
#include "memory/page_reader.h"
#include "memory/pages.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"

/* The process stands still: a page that the kernel says is there can be read. */
struct all_judge {
	struct page_judge judge;
	uint64_t unreadable; /* the first one; 0: none */
};

static enum page_verdict judge_all(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero)
{
	struct all_judge *all = (struct all_judge *)(void *)judge;

	if (!bytes && !all->unreadable)
		all->unreadable = address;
	return bytes && !is_zero ? PAGE_PUT : PAGE_SKIP;
}

struct sending {
	const struct process *process;
	struct page_scan scan;
	struct page_regions regions;
	struct page_reader reader;
};

/* Pages of a region, which may reach over several areas of a group. *at is the area that was begun last. */
static struct error *add_region(struct sending *sending, const struct uapi_page_region *region, const struct area **at,
                                bool *is_begun)
{
	for (uint64_t start = region->start, end; start < region->end; start = end) {
		for (; (*at)->entry.end <= start; (*at)++)
			*is_begun = false;
		if (!*is_begun)
			TRY(page_reader_begin(&sending->reader, *at));
		*is_begun = true;
		end = region->end < (*at)->entry.end ? region->end : (*at)->entry.end;
		TRY(page_reader_add(&sending->reader, start, (end - start) / PAGE_BYTES));
	}
	return NULL;
}

/* Areas that follow one another and are asked the same: one question for all of them. */
static struct error *send_group(struct sending *sending, const struct area *group, size_t count)
{
	struct page_query query = page_query_for(&sending->scan, group);
	const struct area *at = group;
	bool is_begun = false;

	query.end = group[count - 1].entry.end;
	while (query.start < query.end) {
		int r = page_scan_next(&sending->scan, &query, &sending->regions);

		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		for (size_t i = 0; i < sending->regions.count; i++)
			TRY(add_region(sending, &sending->regions.list[i], &at, &is_begun));
		query.start = sending->regions.end;
	}
	return NULL;
}

static struct error *send_vdso(struct sending *sending, const struct area *area)
{
	TRY(page_reader_begin(&sending->reader, area));
	return page_reader_add(&sending->reader, area->entry.start, (area->entry.end - area->entry.start) / PAGE_BYTES);
}

/* How many areas from the first on make a group. */
static size_t group_count(const struct area *list, size_t count)
{
	enum { GROUP_BYTES = 64 << 20 };
	enum area_content content = area_content(&list[0]);
	size_t n = 1;

	while (n < count && area_content(&list[n]) == content && list[n].entry.end - list[0].entry.start <= GROUP_BYTES)
		n++;
	return n;
}

/* The areas from the first on that go together: *ret_count of them. */
static struct error *send_next(struct sending *sending, const struct area *list, size_t count, size_t *ret_count)
{
	*ret_count = 1;
	switch (area_content(&list[0])) {
	case AREA_CONTENT_NONE:
	case AREA_CONTENT_SHARED:
		return NULL;
	case AREA_CONTENT_VDSO:
		return send_vdso(sending, &list[0]);
	case AREA_CONTENT_ANONYMOUS:
	case AREA_CONTENT_PRIVATE_FILE:
		*ret_count = group_count(list, count);
		return send_group(sending, list, *ret_count);
	}
	return NULL;
}

static void sending_free(struct sending *sending)
{
	page_scan_close(&sending->scan);
	page_reader_free(&sending->reader);
	free(sending);
}
DEFINE_OWNED(struct sending *, sending_free)

struct error *pages_send(const struct process *process, const struct areas *areas, struct page_sink *sink)
{
	AUTO(sending_free) struct sending *sending = xalloc(sizeof(*sending));
	struct all_judge judge = {.judge.judge = judge_all};

	sending->process = process;
	sending->scan.fd = -1;
	page_reader_init(&sending->reader, process->pid, process->mem_fd, sink, &judge.judge);
	TRY(page_scan_open(process->pid, &sending->scan));
	for (size_t i = 0, n; i < areas->count; i += n)
		TRY(send_next(sending, &areas->list[i], areas->count - i, &n), "area at %#" PRIx64,
		    areas->list[i].entry.start);
	TRY(page_reader_flush(&sending->reader));
	if (judge.unreadable)
		return error_new(EFAULT, "page %#" PRIx64 " of process %d can't be read", judge.unreadable,
		                 process->pid);
	return NULL;
}

uint64_t pages_in_memory(pid_t pid)
{
	auto_free char *statm = NULL;
	char *next;

	if (procfs_read(pid, "statm", &statm, NULL) < 0)
		return 0;
	(void)strtoull(statm, &next, 10);
	uint64_t resident = strtoull(next, &next, 10);
	uint64_t of_files = strtoull(next, NULL, 10);
	return resident > of_files ? resident - of_files : 0;
}
