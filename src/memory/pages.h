/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The pages of a process: which ones have content of their own, which were written since, and reading them in bulk.
 */
#pragma once

#include "memory/areas.h"
#include "task/process.h"

/* Where pages go. Runs come in ascending order, each of at most PAGE_SINK_BYTES. */
enum { PAGE_SINK_BYTES = 128 * 1024 };
struct page_sink {
	/* bytes is page_count pages, borrowed for the call. */
	struct error *(*put)(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count);
	/* These pages read as zeros, or have gone (MADV_DONTNEED): only called by pages_send_written(). */
	struct error *(*drop)(struct page_sink *sink, uint64_t address, size_t page_count);
};

/*
 * Sends all pages of the areas that a restore could not get from the files they map: present or swapped, anonymous, or
 * private copies of file pages; the content of anonymous shared memory. Pages of zeros are left out.
 */
MUST_USE struct error *pages_send(const struct process *process, const struct areas *areas, struct page_sink *sink);

/* ---- Written pages: dirty tracking ---- */

/* By userfaultfd in WP_ASYNC mode and PAGEMAP_SCAN, by soft-dirty bits, or by comparing hashes: the best that this
 * kernel has, or the one that is asked for. */
enum tracker_kind { TRACKER_BEST, TRACKER_WRITE_PROTECT, TRACKER_SOFT_DIRTY, TRACKER_HASH };
struct tracker;

/*
 * Starts tracking in these areas; process must be parked (the userfaultfd is made by a batch in it, fetched with
 * pidfd_getfd(2), and closed there). It lives on when process has been thawed and freed; nothing of it stays in the
 * program when the tracker is freed or we die.
 */
MUST_USE struct error *tracker_new(struct process *process, const struct areas *areas, enum tracker_kind kind,
                                   struct tracker **ret_tracker);
void tracker_free(struct tracker *tracker);
DEFINE_OWNED(struct tracker *, tracker_free)
#define auto_tracker AUTO(tracker_free)

/*
 * One round: sends what was written since the last one (the first: all pages, as pages_send()) while the program runs,
 * and protects again. Areas are those of now: new ones are registered and sent whole. Pages written in two rounds
 * running are hot: neither protected nor sent, but kept for pages_send_written().
 */
MUST_USE struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* The last round: the program is parked and nothing is protected again. */
MUST_USE struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* How many pages a round would send now, without write-protecting: for predicting the pause. */
MUST_USE struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages);
