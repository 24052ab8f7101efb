/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The memory of a task that is built: maps areas at their final addresses and fills their pages in bulk.
 *
 * The task is one of ours, parked, with nothing mapped but the stub and its vDSO. Areas get their final protection at
 * once, since private memory can be written from outside whatever that is (FOLL_FORCE, proc_pid_mem(5)), and shared
 * memory is filled as a file (shared_build.h).
 */
#pragma once

#include "godwit-memory.pb-c.h"
#include "mm.pb-c.h"
#include "task/process.h"
#include "util/ranges.h"

struct memory;

/* task is borrowed until free. Never NULL. */
struct memory *memory_new(struct process *task);
void memory_free(struct memory *memory);
DEFINE_OWNED(struct memory *, memory_free)
#define auto_memory AUTO(memory_free)

/* A descriptor in the task for a mapped file or shared memory (by vma_entry.shmid), open in the way that the area needs. */
struct file_source {
	struct error *(*open)(struct file_source *source, const VmaEntry *vma, int *ret_fd_in_task);
};

/*
 * Maps the areas of mm, and moves the vDSO out of their way. extra may be NULL.
 *
 * May be called again with a later state of them: what memory_unmap() has left stays as it is, with its pages, and gets
 * the protection that it has by now; the rest is mapped.
 */
MUST_USE struct error *memory_map(struct memory *memory, const MmEntry *mm, const MemoryExtraEntry *extra,
                                  struct file_source *source);

/* Unmaps ranges, whose areas are not there any more, or are others. */
MUST_USE struct error *memory_unmap(struct memory *memory, const struct ranges *gone);

/* Pages that are as if nobody had ever touched them: MADV_DONTNEED. */
MUST_USE struct error *memory_drop(struct memory *memory, uint64_t address, size_t page_count);

/* Writes pages. Those of the vDSO wait for memory_finish(): vdso.h. */
MUST_USE struct error *memory_fill(struct memory *memory, uint64_t address, const void *bytes, size_t page_count);

/* The vDSO; names, advice, policies, locks, seals; where heap, stack, arguments and environment are; the executable (-1: it stays). */
MUST_USE struct error *memory_finish(struct memory *memory, const MmEntry *mm, const MemoryExtraEntry *extra,
                                     int exe_fd_in_task);
