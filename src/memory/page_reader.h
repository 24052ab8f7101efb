/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Reads pages of a process into one buffer that is used again and again (so it stays in the processor's cache), many
 * scattered pages with one call, and hands them to a sink in runs.
 *
 * A judge looks at each page when it has been read and says what becomes of it.
 */
#pragma once

#include "memory/pages.h"

enum page_verdict {
	PAGE_SKIP,
	PAGE_PUT,
	PAGE_DROP,
	PAGE_KEEP, /* unchanged since it was put */
};

struct page_judge {
	/* is_zero is only told for pages that may be left out when they are zero. bytes is NULL for a page that can't
	 * be read, because it has gone or its area has. */
	enum page_verdict (*judge)(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero);
};

/* Pages to read, or whose verdict is known. */
struct page_piece {
	uint64_t address;
	size_t page_count;
	bool may_skip_zeros; /* a page that isn't there reads as zeros */
	bool is_judged;
	enum page_verdict verdict;
};

enum { PIECES_MAX = 64 };

struct page_reader {
	pid_t pid;
	int mem_fd; /* borrowed: /proc/PID/mem */
	struct page_sink *sink;
	struct page_judge *judge;
	uint8_t *buffer; /* owned */
	struct page_piece pieces[PIECES_MAX];
	size_t piece_count, page_count;
	/* Where the pages of the present area come from. */
	bool by_mem;         /* process_vm_readv(2) can't: no PROT_READ */
	int file_fd;         /* borrowed: read this file; -1: the process's memory */
	bool may_skip_zeros; /* as in its pieces */
};

/* mem_fd (/proc/PID/mem), sink and judge are borrowed. */
void page_reader_init(struct page_reader *reader, pid_t pid, int mem_fd, struct page_sink *sink,
                      struct page_judge *judge);
void page_reader_free(struct page_reader *reader); /* what it points to */
#define auto_page_reader __attribute__((cleanup(page_reader_free)))

/* What follows is in this area. */
MUST_USE struct error *page_reader_begin(struct page_reader *reader, const struct area *area);

/* What follows are offsets in a file (borrowed). */
MUST_USE struct error *page_reader_begin_file(struct page_reader *reader, int fd);

/* Pages to read, in ascending order. */
MUST_USE struct error *page_reader_add(struct page_reader *reader, uint64_t address, size_t page_count);

/* Pages that need not be read. */
MUST_USE struct error *page_reader_tell(struct page_reader *reader, uint64_t address, size_t page_count,
                                        enum page_verdict verdict);

/* Reads and hands over all that has been added. */
MUST_USE struct error *page_reader_flush(struct page_reader *reader);
