/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The pages of a process: which ones have content of their own, which were written since, and reading them in bulk.
 */
#pragma once

#include "memory/areas.h"
#include "task/process.h"

/*
 * Where pages go, and what becomes of them. Runs come in ascending order, those of put() of at most PAGE_SINK_BYTES.
 * Shared memory that is mapped more than once comes once, at the lowest of its addresses.
 */
enum { PAGE_SINK_BYTES = 128 * 1024 };
struct page_sink {
	/* bytes is page_count pages, borrowed for the call. */
	struct error *(*put)(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count);
	/* These pages, which were put before, read as zeros or as the mapped file's now (MADV_DONTNEED). Only trackers
	 * call it. */
	struct error *(*drop)(struct page_sink *sink, uint64_t address, size_t page_count);
	/* These pages are as they were put before. Only trackers call it; may be NULL, which is faster. */
	struct error *(*keep)(struct page_sink *sink, uint64_t address, size_t page_count);
};

/*
 * Sends all pages of the areas that a restore could not get from the files they map: present or swapped, anonymous, or
 * private copies of file pages; the content of anonymous shared memory; the code of the vDSO. Pages of zeros are left
 * out. The process must stand still.
 */
MUST_USE struct error *pages_send(const struct process *process, const struct areas *areas, struct page_sink *sink);

/* ---- Written pages: dirty tracking ---- */

/* By userfaultfd in WP_ASYNC mode and PAGEMAP_SCAN, by soft-dirty bits, or by comparing hashes: the best that this
 * kernel has, or the one that is asked for. */
enum tracker_kind { TRACKER_BEST, TRACKER_WRITE_PROTECT, TRACKER_SOFT_DIRTY, TRACKER_HASH };

/*
 * Devices write into pages that were pinned before they were protected, and the tracking doesn't see it: O_DIRECT, AIO,
 * buffers of io_uring, vmsplice(2), packet rings. Where the program has descriptors of such kinds, pages are compared
 * by hash with what was sent, in the last round.
 */
enum tracker_compare {
	TRACKER_COMPARE_NONE,
	/* Those that were written in any round but the first; and the second round compares all. For what is pinned
	 * for the time of a call: O_DIRECT, AIO. */
	TRACKER_COMPARE_WRITTEN,
	/* All: 100 to 200 ms per GB of the freeze. For what stays pinned: fixed buffers, vmsplice. */
	TRACKER_COMPARE_ALL,
};
struct tracker;

/*
 * Starts tracking in these areas; process must be parked (the userfaultfd is made by a batch in it, fetched with
 * pidfd_getfd(2), and closed there). It lives on when process has been thawed and freed; nothing of it stays in the
 * program when the tracker is freed or we die.
 *
 * Soft-dirty bits can't be read and cleared in one: that tracker stops the program for a moment in each round, so no
 * thread of ours may have seized it then.
 */
MUST_USE struct error *tracker_new(struct process *process, enum tracker_kind kind, enum tracker_compare compare,
                                   struct tracker **ret_tracker);

/* Slow (50 ms per GB): the kernel takes off the protection. After the thaw, never in the freeze. */
void tracker_free(struct tracker *tracker);
DEFINE_OWNED(struct tracker *, tracker_free)
#define auto_tracker AUTO(tracker_free)

/* Which one it is. */
enum tracker_kind tracker_kind(const struct tracker *tracker);

/*
 * One round: sends what was written since the last one (the first: all pages, as pages_send()) while the program runs,
 * and protects again. Areas are those of now: new ones are registered and sent whole. Pages written in two rounds
 * running are hot: neither protected nor sent, but kept for tracker_finish() (or for a fourth round: they may have
 * cooled down).
 */
MUST_USE struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* The last round: the program is parked and nothing is protected again. */
MUST_USE struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* How many pages tracker_finish() would send now, without write-protecting: for predicting the pause. Without those of
 * shared memory, and with hashing a guess: as many as in the last round. */
MUST_USE struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages);
