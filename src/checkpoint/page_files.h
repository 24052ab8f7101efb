/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A program's pages as files of a directory: pagemap-PID.img for its own, pagemap-shmem-ID.img for each object of its
 * shared memory, and the pages-N.img that belong to them.
 */
#pragma once

#include "image/pages.h"
#include "memory/pages.h"
#include "memory/shared_build.h"
#include "util/ranges.h"

struct dump_statistics;
struct memory;

/* A sink that makes those files. Begin with {0}. */
struct page_files {
	struct page_sink sink;
	int dir_fd;               /* borrowed */
	struct pages_writer *own; /* owned */
	/* All owned; the last one is what pages go to. They are on disk only when all is finished, since that takes time;
	 * but a descriptor is needed for each until then. */
	struct pages_writer **shared;
	size_t shared_count;
	size_t synced_count; /* of these, on disk already */
	uint32_t next_pages_id;
	const struct ranges *parent; /* borrowed: its own pages that the parent folder has; NULL: there is none */
	size_t next;                 /* of those: what is kept comes in order */
	uint64_t scanned_pages, kept_pages;
};

/* Empties what it points to; its files are gone, unless they are kept. */
void page_files_free(struct page_files *files);
#define auto_page_files __attribute__((cleanup(page_files_free)))

/* parent: pages that are told to be unchanged are left to the parent folder; NULL: there is none. */
MUST_USE struct error *page_files_open(int dir_fd, pid_t pid, const struct ranges *parent,
                                       struct page_files *ret_files);

/* Before anything is put: so many bytes of its own pages wait in memory for page_files_finish(). */
void page_files_gather(struct page_files *files, size_t size_bytes);

/* On disk. */
MUST_USE struct error *page_files_finish(struct page_files *files);

/* All else that belongs to them is on disk, too. */
void page_files_keep(struct page_files *files);
void page_files_add_statistics(const struct page_files *files, struct dump_statistics *statistics);

/* All pages of a directory into a program that is built: those of a process, and those of all shared memory. */
MUST_USE struct error *page_files_fill(int dir_fd, pid_t pid, struct memory *memory);
MUST_USE struct error *page_files_fill_shared(int dir_fd, struct shared_build *shared);
