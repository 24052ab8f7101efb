/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Which pages of a program were written since a moment: three ways to know, behind one interface.
 *
 *     userfaultfd   write-protection in its asynchronous mode, read by the PAGEMAP_SCAN ioctl (Linux 6.7). A look and a
 *                   new beginning are one, so the program runs meanwhile. Writes by devices are not seen: see
 *                   process_settle().
 *     soft-dirty    /proc/PID/clear_refs and a bit in /proc/PID/pagemap (CONFIG_MEM_SOFT_DIRTY). What is written between
 *                   a look and the new beginning would be lost, so the program stands still for that long.
 *     hash          any page may have been written: whoever asks compares it with what it was.
 */
#pragma once

#include "memory/areas.h"
#include "task/process.h"
#include "util/ranges.h"

struct dirty; /* what a way remembers of one program */

/* One look at the pages of some areas. */
struct look {
	const struct areas *areas;
	/* From now on anew: not in the freeze, where it would take too long. */
	bool is_beginning;
	const struct ranges *except; /* addresses that are not begun anew, nor told as written; NULL: none */
	struct ranges *ret_there;    /* pages with content of their own; NULL: not needed */
	struct ranges *ret_written;  /* those of them that were written since the last beginning */
};

struct dirty_way {
	const char *name; /* as --track takes it */
	/* Pages of shared memory that are there and not told as written have not been written through this mapping. */
	bool knows_shared;
	/* Every page is told as written. */
	bool knows_nothing;
	/* Writes by a device into pages that were pinned before the last beginning are not told. */
	bool misses_devices;

	/* Begins, by a batch in the process, which is parked; what it returns lives on when that has been thawed. */
	struct error *(*begin)(struct process *process, struct dirty **ret_dirty);
	struct error *(*look)(struct dirty *dirty, const struct look *look);
	/* The same at the end, when the process stands still: without a new beginning, with ret_there, by one scan of all
	 * pages. NULL: look() and dirty_scan_there() do it by two. */
	struct error *(*look_last)(struct dirty *dirty, const struct look *look);
	void (*end)(struct dirty *dirty);

	/* For rounds that are made by one process after another; NULL where that can't be. The descriptor that has to be
	 * kept meanwhile (borrowed; -1: none); the end then leaves everything as it is. */
	int (*keep)(struct dirty *dirty);
	/* Ends that; the descriptor is consumed. NULL: there is nothing to end. */
	void (*keep_end)(pid_t pid, int fd);
	/* Goes on elsewhere with a copy of that descriptor, which is taken over, and which stays kept. */
	struct dirty *(*adopt)(pid_t pid, int fd);
};

extern const struct dirty_way dirty_userfaultfd, dirty_soft, dirty_hash;
