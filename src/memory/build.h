/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The memory of a task that is built: maps areas at their final addresses and fills their pages in bulk.
 *
 * The task is one of ours, parked, with nothing mapped but the stub and its vDSO. Areas are first mapped writable where
 * that is needed to fill them, and get their real protection and advice last: memory_finish().
 */
#pragma once

#include "mm.pb-c.h"
#include "task/process.h"

struct memory;

/* task is borrowed until free. Makes a userfaultfd in it for filling. */
MUST_USE struct error *memory_new(struct process *task, struct memory **ret_memory);
void memory_free(struct memory *memory);
DEFINE_OWNED(struct memory *, memory_free)
#define auto_memory AUTO(memory_free)

/* A descriptor in the task for a mapped file (by the id in vma_entry.shmid), open in the way that the area needs. */
struct file_source {
	struct error *(*open)(struct file_source *source, const VmaEntry *vma, int *ret_fd_in_task);
};

/*
 * Makes the task's areas those of mm: unmaps what is not in it any more (nor the stub's pages and the vDSO), maps what
 * is new, keeps what is the same with its pages. Called for the draft at first and again for the last state.
 */
MUST_USE struct error *memory_map(struct memory *memory, const MmEntry *mm, struct file_source *source);

/* Writes pages, whatever is there now. In pieces of up to PAGE_SINK_BYTES; fast for missing anonymous pages. Any
 * thread may call it, one at a time. */
MUST_USE struct error *memory_fill(struct memory *memory, uint64_t address, const void *bytes, size_t page_count);

/* Makes pages read as zeros (or as the mapped file's). */
MUST_USE struct error *memory_drop(struct memory *memory, uint64_t address, size_t page_count);

/* Final protection, advice, locks; the userfaultfd goes away. brk, argv, auxv and exe are set by prctl(PR_SET_MM). */
MUST_USE struct error *memory_finish(struct memory *memory, const MmEntry *mm, int exe_fd_in_task);
