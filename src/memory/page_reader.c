/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/page_reader.h"
#include "util/alloc.h"

enum { BUFFER_PAGES = PAGE_SINK_BYTES / PAGE_BYTES };
_Static_assert(BUFFER_PAGES <= 64, "a bit for each page");

void page_reader_init(struct page_reader *reader, pid_t pid, int mem_fd, struct page_sink *sink,
                      struct page_judge *judge)
{
	*reader = (struct page_reader){
		.pid = pid,
		.mem_fd = mem_fd,
		.sink = sink,
		.judge = judge,
		.buffer = xalloc_touched(PAGE_SINK_BYTES),
		.file_fd = -1,
	};
}

void page_reader_free(struct page_reader *reader)
{
	free(reader->buffer);
	reader->buffer = NULL;
}

struct error *page_reader_begin(struct page_reader *reader, const struct area *area)
{
	bool by_mem = !(area->entry.prot & PROT_READ);

	/* Pages of several small areas are read with one call. */
	if (by_mem != reader->by_mem || reader->file_fd >= 0)
		TRY(page_reader_flush(reader));
	reader->by_mem = by_mem;
	reader->file_fd = -1;
	reader->may_skip_zeros = area_content(area) == AREA_CONTENT_ANONYMOUS;
	return NULL;
}

struct error *page_reader_begin_file(struct page_reader *reader, int fd)
{
	TRY(page_reader_flush(reader));
	reader->file_fd = fd;
	reader->may_skip_zeros = true;
	return NULL;
}

/* ---- Reading ---- */

/* How far reading has come, and which pages of the buffer can't be read. */
struct progress {
	size_t piece, page; /* the next to read: a page of a piece */
	size_t done;        /* pages in the buffer */
	uint64_t missing;   /* a bit for each of those */
};

static void advance(const struct page_reader *reader, struct progress *progress, size_t pages)
{
	progress->done += pages;
	progress->page += pages;
	while (progress->piece < reader->piece_count) {
		const struct page_piece *piece = &reader->pieces[progress->piece];

		if (!piece->is_judged && progress->page < piece->page_count)
			return;
		progress->page -= piece->is_judged ? 0 : piece->page_count;
		progress->piece++;
	}
}

/* As many pages as one call gets; 0: the next one can't be read in this way. */
static size_t read_scattered(const struct page_reader *reader, const struct progress *progress)
{
	struct iovec remote[PIECES_MAX];
	size_t count = 0;
	size_t first = progress->page;

	for (size_t i = progress->piece; i < reader->piece_count; i++) {
		const struct page_piece *piece = &reader->pieces[i];

		if (piece->is_judged)
			continue;
		remote[count++] = (struct iovec){
			.iov_base = (void *)(uintptr_t)(piece->address + first * PAGE_BYTES), /* there, not here */
			.iov_len = (piece->page_count - first) * PAGE_BYTES,
		};
		first = 0;
	}
	const struct iovec local = {
		.iov_base = reader->buffer + progress->done * PAGE_BYTES,
		.iov_len = (reader->page_count - progress->done) * PAGE_BYTES,
	};
	ssize_t n = process_vm_readv(reader->pid, &local, 1, remote, count, 0);
	return n > 0 ? (size_t)n / PAGE_BYTES : 0;
}

/* A run of pages from a file, which may be the process's memory. Behind a file's end there are zeros. */
static size_t read_run(const struct page_reader *reader, const struct progress *progress, size_t pages_max)
{
	const struct page_piece *piece = &reader->pieces[progress->piece];
	uint64_t address = piece->address + progress->page * PAGE_BYTES;
	size_t pages = piece->page_count - progress->page;
	uint8_t *to = reader->buffer + progress->done * PAGE_BYTES;
	bool is_file = reader->file_fd >= 0;

	if (pages > pages_max)
		pages = pages_max;
	/* Addresses of the upper half can't be read, so off_t is wide enough. */
	ssize_t n = pread(is_file ? reader->file_fd : reader->mem_fd, to, pages * PAGE_BYTES, (off_t)address);
	if (n < 0 || !is_file)
		return n > 0 ? (size_t)n / PAGE_BYTES : 0;
	memset(to + n, 0, pages * PAGE_BYTES - (size_t)n);
	return pages;
}

static struct error *check_alive(const struct page_reader *reader)
{
	uint8_t byte;

	/* mem reads as empty when the address space has gone; any other answer, EIO too, means that it is there. */
	if (pread(reader->mem_fd, &byte, 1, 0) == 0)
		return error_new(ESRCH, "read memory of process %d", reader->pid);
	return NULL;
}

/* One page that has gone, or lost PROT_READ meanwhile, is not the end of its neighbours. */
static struct error *note_missing(const struct page_reader *reader, struct progress *progress)
{
	TRY(check_alive(reader));
	progress->missing |= UINT64_C(1) << progress->done;
	return NULL;
}

static struct error *read_all(struct page_reader *reader, uint64_t *ret_missing)
{
	struct progress progress = {0};

	advance(reader, &progress, 0);
	while (progress.done < reader->page_count) {
		bool is_direct = reader->by_mem || reader->file_fd >= 0;
		size_t pages =
			is_direct ? read_run(reader, &progress, BUFFER_PAGES) : read_scattered(reader, &progress);

		if (pages == 0)
			pages = read_run(reader, &progress, 1);
		if (pages == 0)
			TRY(note_missing(reader, &progress));
		advance(reader, &progress, pages ? pages : 1);
	}
	*ret_missing = progress.missing;
	return NULL;
}

/* ---- Handing over ---- */

/* Neighbours with the same verdict. */
struct verdict_run {
	uint64_t address;
	const uint8_t *bytes;
	size_t page_count;
	enum page_verdict verdict;
};

static struct error *hand_over(struct page_sink *sink, const struct verdict_run *run)
{
	if (run->page_count == 0)
		return NULL;
	switch (run->verdict) {
	case PAGE_SKIP:
		return NULL;
	case PAGE_PUT:
		return sink->put(sink, run->address, run->bytes, run->page_count);
	case PAGE_DROP:
		return sink->drop(sink, run->address, run->page_count);
	case PAGE_KEEP:
		return sink->keep ? sink->keep(sink, run->address, run->page_count) : NULL;
	}
	return NULL;
}

static struct error *add_to_run(struct page_sink *sink, struct verdict_run *run, uint64_t address, const uint8_t *bytes,
                                enum page_verdict verdict)
{
	if (run->page_count && run->verdict == verdict && run->address + run->page_count * PAGE_BYTES == address) {
		run->page_count++;
		return NULL;
	}
	TRY(hand_over(sink, run));
	*run = (struct verdict_run){.address = address, .bytes = bytes, .page_count = 1, .verdict = verdict};
	return NULL;
}

/* Most pages differ from zero in their first words. */
static bool is_zero_page(const uint8_t *bytes)
{
	uint64_t first;

	memcpy(&first, bytes, sizeof(first));
	return first == 0 && memcmp(bytes, bytes + sizeof(first), PAGE_BYTES - sizeof(first)) == 0;
}

static struct error *judge_piece(struct page_reader *reader, const struct page_piece *piece, const uint8_t *bytes,
                                 uint64_t missing, struct verdict_run *run)
{
	for (size_t i = 0; i < piece->page_count; i++) {
		uint64_t address = piece->address + i * PAGE_BYTES;
		const uint8_t *page = bytes + i * PAGE_BYTES;
		bool is_missing = missing & (UINT64_C(1) << i);
		bool is_zero = !is_missing && piece->may_skip_zeros && is_zero_page(page);
		enum page_verdict verdict =
			reader->judge->judge(reader->judge, address, is_missing ? NULL : page, is_zero);

		TRY(add_to_run(reader->sink, run, address, page, verdict));
	}
	return NULL;
}

/* A piece whose verdict is known is a run of its own, behind the one that was begun. */
static struct error *hand_over_judged(const struct page_reader *reader, const struct page_piece *piece,
                                      struct verdict_run *run)
{
	const struct verdict_run told = {piece->address, NULL, piece->page_count, piece->verdict};

	TRY(hand_over(reader->sink, run));
	*run = (struct verdict_run){0};
	return hand_over(reader->sink, &told);
}

static struct error *hand_over_all(struct page_reader *reader, uint64_t missing)
{
	struct verdict_run run = {0};
	size_t done = 0;

	for (size_t i = 0; i < reader->piece_count; i++) {
		const struct page_piece *piece = &reader->pieces[i];

		TRY(piece->is_judged
		            ? hand_over_judged(reader, piece, &run)
		            : judge_piece(reader, piece, reader->buffer + done * PAGE_BYTES, missing >> done, &run));
		if (!piece->is_judged)
			done += piece->page_count;
	}
	return hand_over(reader->sink, &run);
}

struct error *page_reader_flush(struct page_reader *reader)
{
	uint64_t missing = 0;

	TRY(read_all(reader, &missing));
	TRY(hand_over_all(reader, missing));
	reader->piece_count = 0;
	reader->page_count = 0;
	return NULL;
}

/* ---- Adding ---- */

struct error *page_reader_add(struct page_reader *reader, uint64_t address, size_t page_count)
{
	while (page_count > 0) {
		if (reader->page_count == BUFFER_PAGES || reader->piece_count == PIECES_MAX)
			TRY(page_reader_flush(reader));

		size_t room = BUFFER_PAGES - reader->page_count;
		size_t pages = page_count < room ? page_count : room;
		reader->pieces[reader->piece_count++] = (struct page_piece){
			.address = address,
			.page_count = pages,
			.may_skip_zeros = reader->may_skip_zeros,
		};
		reader->page_count += pages;
		address += pages * PAGE_BYTES;
		page_count -= pages;
	}
	return NULL;
}

struct error *page_reader_tell(struct page_reader *reader, uint64_t address, size_t page_count,
                               enum page_verdict verdict)
{
	if (reader->piece_count == PIECES_MAX)
		TRY(page_reader_flush(reader));
	reader->pieces[reader->piece_count++] = (struct page_piece){
		.address = address,
		.page_count = page_count,
		.is_judged = true,
		.verdict = verdict,
	};
	return NULL;
}
