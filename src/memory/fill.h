/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Writes pages into a task that is built, whatever their protection.
 *
 * A page that isn't there yet is made by UFFDIO_COPY (userfaultfd(2)), which takes half as long as writing to it by
 * process_vm_writev(2), for that has to fault it in first: 0.3 instead of 0.6 s for each GB. It needs the areas
 * registered, and until filler_end() nothing else may touch a page of them that isn't there, neither the task nor a
 * call of it. Where the kernel doesn't let us, all pages are written.
 */
#pragma once

#include "task/process.h"

struct filler;

/* task is borrowed until free. Never NULL. */
struct filler *filler_new(struct process *task);
void filler_free(struct filler *filler);
DEFINE_OWNED(struct filler *, filler_free)

/* A private anonymous area of pages of 4 KiB, just mapped. */
void filler_add(struct filler *filler, uint64_t start, uint64_t end);

MUST_USE struct error *filler_write(struct filler *filler, uint64_t address, const void *bytes, size_t page_count);

/* Areas are as they would be without it. */
void filler_end(struct filler *filler);
