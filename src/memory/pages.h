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
 */
enum { PAGE_SINK_BYTES = 128 * 1024 };
struct page_sink {
	uint64_t shared_id; /* addresses are offsets in that shared memory (shared.h); 0: the process's own */
	/* What follows is of this shared memory, where there may be nothing to follow. May be NULL. */
	struct error *(*begin_shared)(struct page_sink *sink, uint64_t shared_id);
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
 * private copies of file pages; the code of the vDSO. Not what shared memory holds: shared_send.h. Pages of zeros are
 * left out. The process must stand still.
 */
MUST_USE struct error *pages_send(const struct process *process, const struct areas *areas, struct page_sink *sink);

/* How many there are about, of a program that runs: the pages in memory that are no file's. proc_pid_statm(5) */
uint64_t pages_in_memory(pid_t pid);
