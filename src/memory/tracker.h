/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sends a running program's pages in rounds: which ones were written since the last one is told by userfaultfd(2)
 * write-protection in its asynchronous mode and the PAGEMAP_SCAN ioctl (Linux 6.7).
 *
 * What it doesn't see, and what is done about it:
 * - Shared memory changed by write(2), another mapping or hole punching: sent whole, in the first and in the last round.
 * - Areas mapped, moved or grown since the last round: all their pages count as written.
 * - Pages that have gone (MADV_DONTNEED, munmap(2)): the last round compares what is there with what was sent.
 * - Devices that write into pinned pages (O_DIRECT and such): not to be used for such a program.
 */
#pragma once

#include "memory/pages.h"
#include "util/ranges.h"

struct tracker;

/*
 * Makes the userfaultfd by a batch in the process, which is parked; it lives on when process has been thawed and freed.
 * Nothing of it stays in the program when the tracker is freed or we die.
 */
MUST_USE struct error *tracker_new(struct process *process, struct tracker **ret_tracker);

/* Slow (50 ms per GB): the kernel takes off the protection. After the thaw, never in the freeze. */
void tracker_free(struct tracker *tracker);
DEFINE_OWNED(struct tracker *, tracker_free)
#define auto_tracker AUTO(tracker_free)

/* The mappings in these ranges are not there any more at the other end: what was sent of them is forgotten. */
void tracker_forget(struct tracker *tracker, const struct ranges *gone);

/* One round, while the program runs: protects and sends what was written since the last one, at first all. areas are
 * those of now. */
MUST_USE struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* The last round, runs frozen: nothing is protected again, and what has gone is dropped. */
MUST_USE struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* How many pages have been written since the last round. */
MUST_USE struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages);
