/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/page_query.h"
#include "memory/page_reader.h"
#include "memory/shared_send.h"
#include "memory/tracker.h"
#include "util/alloc.h"

enum { UFFD_FLAGS = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY };

/* The kernel holds mmap_lock meanwhile, and the program's own mmap(2) waits. */
static const uint64_t PIECE_BYTES = 64 << 20;

struct tracker {
	pid_t pid;
	int uffd;                 /* owned */
	struct ranges registered; /* for the time when it is freed */
	struct ranges sent;       /* what the other end has, and is still mapped there */
	unsigned rounds;
};

/* ---- Making it ---- */

static struct error *enable(int uffd)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UAPI_UFFD_FEATURE_WP_ASYNC | UAPI_UFFD_FEATURE_WP_UNPOPULATED,
	};

	if (ioctl(uffd, UFFDIO_API, &api) < 0)
		return error_hint(error_new(errno, "ioctl(UFFDIO_API)"),
		                  "tracking written pages needs Linux 6.7 with CONFIG_PTE_MARKER_UFFD_WP");
	return NULL;
}

struct error *tracker_new(struct process *process, struct tracker **ret_tracker)
{
	auto_batch struct batch *batch = process_batch(process, 0);
	auto_tracker struct tracker *tracker = xalloc(sizeof(*tracker));
	struct arg fd = batch_call(batch, userfaultfd, val(UFFD_FLAGS));

	tracker->pid = process->pid;
	tracker->uffd = -1;
	TRY(process_make_fd(process, batch, fd, &tracker->uffd));
	TRY(enable(tracker->uffd));
	*ret_tracker = take(tracker);
	return NULL;
}

void tracker_free(struct tracker *tracker)
{
	if (!tracker)
		return;
	for (size_t i = 0; i < tracker->registered.count; i++) {
		const struct range *range = &tracker->registered.list[i];

		for (uint64_t at = range->start; at < range->end; at += PIECE_BYTES) {
			uint64_t size_bytes = range->end - at < PIECE_BYTES ? range->end - at : PIECE_BYTES;
			struct uffdio_range piece = {.start = at, .len = size_bytes};

			/* What isn't mapped any more has nothing to be taken off. */
			ioctl(tracker->uffd, UFFDIO_UNREGISTER, &piece);
		}
	}
	if (tracker->uffd >= 0)
		close(tracker->uffd);
	ranges_free(&tracker->registered);
	ranges_free(&tracker->sent);
	free(tracker);
}

void tracker_forget(struct tracker *tracker, const struct ranges *gone)
{
	struct ranges left = ranges_without(&tracker->sent, gone);

	ranges_free(&tracker->sent);
	tracker->sent = left;
}

/* ---- A round ---- */

/* While a round is under way. The process may run: areas and pages may have gone since the list of areas was read. */
struct round {
	struct tracker *tracker;
	bool is_last;
	struct page_scan scan;
	struct page_regions regions;
	struct page_reader reader;
	struct page_judge judge;
	struct ranges sent;    /* in this round */
	struct ranges present; /* in the last round: all pages that are there */
	int mem_fd;            /* owned */
	uint64_t *count;       /* only count */
};

static enum page_verdict judge_written(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero)
{
	(void)judge;
	(void)address;
	(void)is_zero; /* it may have been something else when it was sent */
	return bytes ? PAGE_PUT : PAGE_SKIP;
}

static enum page_verdict judge_first(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero)
{
	(void)judge;
	(void)address;
	return bytes && !is_zero ? PAGE_PUT : PAGE_SKIP;
}

static void round_free(struct round *round)
{
	page_scan_close(&round->scan);
	page_reader_free(&round->reader);
	ranges_free(&round->sent);
	ranges_free(&round->present);
	if (round->mem_fd >= 0)
		close(round->mem_fd);
	free(round);
}
DEFINE_OWNED(struct round *, round_free)

/* Both files stay with the address space that the process had when they were opened: after an exec, another one. */
static struct error *round_open(struct tracker *tracker, struct page_sink *sink, struct round *round)
{
	auto_free char *path = xformat("/proc/%d/mem", tracker->pid);

	round->tracker = tracker;
	round->scan.fd = -1;
	round->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (round->mem_fd < 0)
		return error_new(errno, "open(%s)", path);
	round->judge.judge = tracker->rounds == 0 ? judge_first : judge_written;
	page_reader_init(&round->reader, tracker->pid, round->mem_fd, sink, &round->judge);
	return page_scan_open(tracker->pid, &round->scan);
}

/* False: it can't be registered, so all its pages count as written, always. */
static bool register_area(struct tracker *tracker, const struct area *area)
{
	struct uffdio_register request = {
		.range = {.start = area->entry.start, .len = area->entry.end - area->entry.start},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct ranges added = {0};

	if (ioctl(tracker->uffd, UFFDIO_REGISTER, &request) < 0)
		return false;
	ranges_append(&added, area->entry.start, area->entry.end);
	ranges_unite(&tracker->registered, &added);
	ranges_free(&added);
	return true;
}

static struct error *take_regions(struct round *round)
{
	for (size_t i = 0; i < round->regions.count; i++) {
		const struct uapi_page_region *region = &round->regions.list[i];
		size_t page_count = (region->end - region->start) / PAGE_BYTES;

		if (round->is_last)
			ranges_append(&round->present, region->start, region->end);
		if (!(region->categories & UAPI_PAGE_IS_WRITTEN))
			continue;
		if (round->count) {
			*round->count += page_count;
			continue;
		}
		ranges_append(&round->sent, region->start, region->end);
		TRY(page_reader_add(&round->reader, region->start, page_count));
	}
	return NULL;
}

/*
 * Written pages only, which become protected again; in the last round all that are there, to know which have gone, and
 * nothing is protected.
 */
static struct page_query query_for(const struct round *round, const struct area *area)
{
	struct page_query query = page_query_for(&round->scan, area);

	query.returned = UAPI_PAGE_IS_WRITTEN;
	query.flags = UAPI_PM_SCAN_CHECK_WPASYNC;
	if (!round->is_last)
		query.required |= UAPI_PAGE_IS_WRITTEN;
	if (!round->is_last && !round->count)
		query.flags |= UAPI_PM_SCAN_WP_MATCHING;
	return query;
}

static struct error *scan_area(struct round *round, const struct area *area)
{
	struct page_query query = query_for(round, area);
	bool is_tried = round->is_last || round->count;

	while (query.start < query.end) {
		int r = page_scan_next(&round->scan, &query, &round->regions);

		if (r == -EPERM) {
			/* Not registered (yet, or any more): then no page of it is protected. */
			if (is_tried || !register_area(round->tracker, area))
				query.flags = 0;
			is_tried = true;
			continue;
		}
		if (r < 0)
			return error_new(-r, "scan from %#" PRIx64, query.start);
		TRY(take_regions(round));
		query.start = round->regions.end;
	}
	return NULL;
}

static struct error *send_vdso(struct round *round, const struct area *area)
{
	size_t page_count = (area->entry.end - area->entry.start) / PAGE_BYTES;

	if (round->tracker->rounds > 0 || round->count)
		return NULL;
	TRY(page_reader_begin(&round->reader, area, -1));
	return page_reader_add(&round->reader, area->entry.start, page_count);
}

static struct error *send_area(struct round *round, struct shared_sender *shared, const struct area *area)
{
	bool is_outer_round = round->tracker->rounds == 0 || round->is_last;

	switch (area_content(area)) {
	case AREA_CONTENT_NONE:
		return NULL;
	case AREA_CONTENT_SHARED:
		return is_outer_round && !round->count ? shared_sender_send(shared, area, &round->reader) : NULL;
	case AREA_CONTENT_VDSO:
		return send_vdso(round, area);
	case AREA_CONTENT_ANONYMOUS:
	case AREA_CONTENT_PRIVATE_FILE:
		TRY(page_reader_begin(&round->reader, area, -1));
		return scan_area(round, area);
	}
	return NULL;
}

static struct error *send_areas(struct round *round, const struct areas *areas)
{
	auto_shared_sender struct shared_sender shared = shared_sender_for(round->tracker->pid, areas);

	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		TRY(send_area(round, &shared, area), "area %#" PRIx64 "-%#" PRIx64, area->entry.start, area->entry.end);
	}
	return page_reader_flush(&round->reader);
}

struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink)
{
	AUTO(round_free) struct round *round = xalloc(sizeof(*round));

	TRY(round_open(tracker, sink, round));
	TRY(send_areas(round, areas));
	ranges_unite(&tracker->sent, &round->sent);
	tracker->rounds++;
	return NULL;
}

static struct error *drop_gone(struct round *round, struct page_sink *sink)
{
	auto_ranges struct ranges gone = ranges_without(&round->tracker->sent, &round->present);

	for (size_t i = 0; i < gone.count; i++)
		TRY(sink->drop(sink, gone.list[i].start, (gone.list[i].end - gone.list[i].start) / PAGE_BYTES));
	return NULL;
}

struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink)
{
	AUTO(round_free) struct round *round = xalloc(sizeof(*round));

	round->is_last = true;
	TRY(round_open(tracker, sink, round));
	TRY(send_areas(round, areas));
	TRY(drop_gone(round, sink));
	/* It may turn out not to have been the last one. */
	ranges_unite(&tracker->sent, &round->sent);
	tracker->rounds++;
	return NULL;
}

struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages)
{
	AUTO(round_free) struct round *round = xalloc(sizeof(*round));

	*ret_pages = 0;
	round->count = ret_pages;
	TRY(round_open(tracker, NULL, round));
	return send_areas(round, areas);
}
