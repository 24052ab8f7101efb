/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sends a running program's pages in rounds: at first all, then those that were written since the round before, whichever
 * way there is to know them (dirty.h).
 *
 * What no way sees by itself, and what is done about it:
 * - Shared memory changed by write(2), another mapping or hole punching: it isn't sent here, but by shared_send.h, which
 *   is told what tracker_unwritten() knows of it.
 * - Areas mapped, moved or grown since the last round: all their pages count as written.
 * - Pages that have gone (MADV_DONTNEED, munmap(2)): the last round compares what is there with what was sent.
 * - Devices that write into pinned pages (a file read with O_DIRECT): they may write behind the moment when the page was
 *   protected, but not behind the end of the call. So pages are read only when all such calls that were under way at
 *   that moment have ended: process_settle().
 *
 * Pages that are written again and again are hot: they are left for the last round, and not protected again, which
 * costs the program a fault each.
 */
#pragma once

#include "memory/pages.h"
#include "util/ranges.h"

struct tracker;

enum track {
	TRACK_AUTO, /* the best that there is */
	TRACK_USERFAULTFD,
	TRACK_SOFT_DIRTY,
	TRACK_HASH,
};

/* Begins, by a batch in the process, which is parked; the tracker lives on when process has been thawed and freed.
 * Nothing of it stays in the program when it is freed or we die. */
MUST_USE struct error *tracker_new(struct process *process, enum track track, struct tracker **ret_tracker);

/* Slow (50 ms per GB) where the kernel has to take off protection. After the thaw, never in the freeze. */
void tracker_free(struct tracker *tracker);
DEFINE_OWNED(struct tracker *, tracker_free)
#define auto_tracker AUTO(tracker_free)

/* How written pages are told: "userfaultfd", "soft-dirty" or "hash". */
const char *tracker_way(const struct tracker *tracker);

/*
 * For rounds that are made by one process after another: what somebody who lives on has to keep meanwhile. From then on
 * freeing the tracker takes nothing off. EOPNOTSUPP where the way can't be gone on with.
 */
struct tracker_kept {
	enum track track;
	int fd; /* -1: none is needed */
};
MUST_USE struct error *tracker_keep(struct tracker *tracker, struct tracker_kept *ret_kept); /* fd is borrowed */

/* Whoever has kept it gives it up; closes its descriptor. */
void tracker_keep_end(pid_t pid, struct tracker_kept *kept);

/* Goes on with it; kept->fd is a copy and taken over. What was not written since the last round is told to the sink's
 * keep(). */
struct tracker *tracker_adopt(pid_t pid, const struct tracker_kept *kept);

/* The next round sends all pages, written or not. */
void tracker_send_all(struct tracker *tracker);

/* The other end has nothing of it: as if there had been no round yet. */
void tracker_begin_anew(struct tracker *tracker);

/* The mappings in these ranges are not there any more at the other end: what was sent of them is forgotten. */
void tracker_forget(struct tracker *tracker, const struct ranges *gone);

/* One round, while the program runs: sends what was written since the last one, at first all. areas are those of now. */
MUST_USE struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* The same while we hold the program: its calls have ended, and nobody could stop its threads once more. */
MUST_USE struct error *tracker_round_held(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* Pages that were there in the last round, and had not been written since the one before: of shared areas, too, if the way
 * knows that of them. Borrowed until the next round. */
const struct ranges *tracker_unwritten(const struct tracker *tracker);

/* The last round, runs frozen: nothing is protected again, and what has gone is dropped. */
MUST_USE struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink);

/* About how many pages the last round would send now. */
MUST_USE struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages);
