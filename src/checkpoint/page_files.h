/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The pages of processes as files of a directory: pagemap-PID.img for the own ones of each, pagemap-shmem-ID.img for each
 * object of their shared memory, and the pages-N.img that belong to them.
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
	int dir_fd; /* borrowed */
	/* A process's own pages. */
	struct own_pages {
		pid_t pid;
		struct pages_writer *writer; /* owned */
		bool is_used;                /* else its files don't stay */
	} * own;                             /* owned */
	size_t own_count, own_current;
	/* All owned; the last one is what pages go to. They are on disk only when all is finished, since that takes time;
	 * but a descriptor is needed for each until then. */
	struct pages_writer **shared;
	size_t shared_count;
	size_t synced_count; /* of these, on disk already */
	uint32_t next_pages_id;
	const struct ranges *parent; /* borrowed: own pages that the parent folder has; NULL: there is none */
	size_t next;                 /* of those: what is kept comes in order */
	uint64_t scanned_pages, kept_pages;
};

/* Empties what it points to; its files are gone, unless they are kept. */
void page_files_free(struct page_files *files);
#define auto_page_files __attribute__((cleanup(page_files_free)))

/* parent: pages that are told to be unchanged are left to the parent folder; NULL: there is none. */
void page_files_begin(struct page_files *files, int dir_fd, const struct ranges *parent);

/* Makes the files of a process, by the number that it has for itself, unless they are there. That takes time. gather_bytes:
 * so many bytes of its own pages wait in memory for page_files_finish(). */
MUST_USE struct error *page_files_prepare(struct page_files *files, pid_t own_pid, size_t gather_bytes);

/* What comes next is of that process. */
MUST_USE struct error *page_files_select(struct page_files *files, pid_t own_pid);

/* On disk. */
MUST_USE struct error *page_files_finish(struct page_files *files);

/* All else that belongs to them is on disk, too. */
void page_files_keep(struct page_files *files);
void page_files_add_statistics(const struct page_files *files, struct dump_statistics *statistics);

/* All pages of a directory into a program that is built: those of a process, and those of all shared memory. */
MUST_USE struct error *page_files_fill(int dir_fd, pid_t pid, struct memory *memory);
MUST_USE struct error *page_files_fill_shared(int dir_fd, struct shared_build *shared);
