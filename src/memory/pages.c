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

static struct error *send_present(struct sending *sending, const struct area *area)
{
	struct page_query query = page_query_for(&sending->scan, area);

	while (query.start < query.end) {
		int r = page_scan_next(&sending->scan, &query, &sending->regions);

		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		for (size_t i = 0; i < sending->regions.count; i++) {
			const struct uapi_page_region *region = &sending->regions.list[i];

			TRY(page_reader_add(&sending->reader, region->start,
			                    (region->end - region->start) / PAGE_BYTES));
		}
		query.start = sending->regions.end;
	}
	return NULL;
}

static struct error *send_area(struct sending *sending, const struct area *area)
{
	switch (area_content(area)) {
	case AREA_CONTENT_NONE:
	case AREA_CONTENT_SHARED:
		return NULL;
	case AREA_CONTENT_VDSO:
		TRY(page_reader_begin(&sending->reader, area));
		return page_reader_add(&sending->reader, area->entry.start,
		                       (area->entry.end - area->entry.start) / PAGE_BYTES);
	case AREA_CONTENT_ANONYMOUS:
	case AREA_CONTENT_PRIVATE_FILE:
		TRY(page_reader_begin(&sending->reader, area));
		return send_present(sending, area);
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
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		TRY(send_area(sending, area), "area %#" PRIx64 "-%#" PRIx64, area->entry.start, area->entry.end);
	}
	TRY(page_reader_flush(&sending->reader));
	if (judge.unreadable)
		return error_new(EFAULT, "page %#" PRIx64 " of process %d can't be read", judge.unreadable,
		                 process->pid);
	return NULL;
}
