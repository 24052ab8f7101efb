/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Saved pages: pagemap-PID.img, which says what is where, and pages-N.img, the bytes. As in CRIU, a directory may hold
 * only the pages that changed since its parent, a directory that its symbolic link "parent" points to (made by whoever
 * makes the directory).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

enum { PAGE_BYTES = 4096 };

/* ---- Writing ---- */

struct pages_writer;

/* Makes both files for the task pid (as the image knows it), with pages_id as the N of pages-N.img. dir_fd is borrowed
 * until free. */
MUST_USE struct error *pages_writer_open(int dir_fd, pid_t pid, uint32_t pages_id, struct pages_writer **ret_writer);

/* The same for shared memory that is no file of its own: its id, as vma_entry.shmid and memfd_inode_entry.shmid have it.
 * Addresses are offsets in it. */
MUST_USE struct error *pages_writer_open_shared(int dir_fd, uint64_t shmid, uint32_t pages_id,
                                                struct pages_writer **ret_writer);

/* Nothing has been put yet: so many bytes of pages are kept in memory before any are written to the file, which takes
 * several times as long. */
void pages_writer_gather(struct pages_writer *writer, size_t size_bytes);

/* Appends pages in ascending order of addresses; neighbours become one entry. Bytes may be given in any pieces. */
MUST_USE struct error *pages_writer_put(struct pages_writer *writer, uint64_t address, const void *bytes,
                                        size_t page_count);

/* Says that these pages are unchanged since the parent. */
MUST_USE struct error *pages_writer_put_in_parent(struct pages_writer *writer, uint64_t address, size_t page_count);

/* Writes what is still buffered, and fsyncs and closes both files. They are gone when the writer is freed, unless they are
 * kept. */
MUST_USE struct error *pages_writer_sync(struct pages_writer *writer);
void pages_writer_keep(struct pages_writer *writer);

/* Both. */
MUST_USE struct error *pages_writer_finish(struct pages_writer *writer);
void pages_writer_free(struct pages_writer *writer);
DEFINE_OWNED(struct pages_writer *, pages_writer_free)
#define auto_pages_writer AUTO(pages_writer_free)

/* Pages whose bytes were written so far, for statistics. */
uint64_t pages_writer_count(const struct pages_writer *writer);

/* ---- Reading ---- */

struct pages_reader;

/* A run of saved pages, its bytes one after the other in one file. */
struct page_run {
	uint64_t address;
	size_t page_count;
	size_t depth;    /* of the directory that has them: 0, or how many parents away */
	uint64_t offset; /* of its first byte in that directory's pages-N.img */
};

/* Opens the pagemap of pid in a directory and, where it has them, its parents (bounded; loops are an error). Checks
 * order, overlaps, sizes, and that each page said to be in a parent is there. dir_fd is borrowed for the call. */
MUST_USE struct error *pages_reader_open(int dir_fd, pid_t pid, struct pages_reader **ret_reader);
MUST_USE struct error *pages_reader_open_shared(int dir_fd, uint64_t shmid, struct pages_reader **ret_reader);

/* The next run in ascending order of addresses. False: there are no more. */
bool pages_reader_next(struct pages_reader *reader, struct page_run *ret_run);

/* Reads pages of a run, from page number first on. */
MUST_USE struct error *pages_reader_read(struct pages_reader *reader, const struct page_run *run, size_t first,
                                         void *ret_bytes, size_t page_count);

/* Are the pages those that were written, as far as sums.godwit knows? At the end: what has been read from a file's first
 * byte to its last isn't read again for that. */
MUST_USE struct error *pages_reader_verify(struct pages_reader *reader);

void pages_reader_free(struct pages_reader *reader);
DEFINE_OWNED(struct pages_reader *, pages_reader_free)
#define auto_pages_reader AUTO(pages_reader_free)
