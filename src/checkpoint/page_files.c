/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/page_files.h"
#include "checkpoint/save/dump.h"
#include "image/pages_ahead.h"
#include "memory/build.h"
#include "util/alloc.h"

enum { FIRST_PAGES_ID = 1, OPEN_WRITERS_MAX = 64 };

/* ---- Saving ---- */

static struct error *sync_shared(struct page_files *files)
{
	for (; files->synced_count < files->shared_count; files->synced_count++)
		TRY(pages_writer_sync(files->shared[files->synced_count]));
	return NULL;
}

static struct error *begin_shared(struct page_sink *sink, uint64_t shared_id)
{
	struct page_files *files = (struct page_files *)sink;
	struct pages_writer *writer;

	if (files->shared_count - files->synced_count == OPEN_WRITERS_MAX)
		TRY(sync_shared(files));
	TRY(pages_writer_open_shared(files->dir_fd, shared_id, files->next_pages_id++, &writer));
	files->shared = reallocarray(files->shared, files->shared_count + 1, sizeof(struct pages_writer *));
	if (!files->shared)
		abort();
	files->shared[files->shared_count++] = writer;
	return NULL;
}

static struct pages_writer *writer_of(struct page_sink *sink)
{
	struct page_files *files = (struct page_files *)sink;

	return sink->shared_id ? files->shared[files->shared_count - 1] : files->own[files->own_current].writer;
}

static struct error *put_pages(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count)
{
	((struct page_files *)sink)->scanned_pages += page_count;
	return pages_writer_put(writer_of(sink), address, bytes, page_count);
}

/* A page that reads as zeros isn't written: it is missing in the restored program, too. */
static struct error *drop_pages(struct page_sink *sink, uint64_t address, size_t page_count)
{
	(void)sink;
	(void)address;
	(void)page_count;
	return NULL;
}

/* Of the process's own pages. Those that the parent doesn't have are zeros there, too. */
static struct error *keep_pages(struct page_sink *sink, uint64_t address, size_t page_count)
{
	struct page_files *files = (struct page_files *)sink;
	const struct ranges *parent = files->parent ? files->parent : &(const struct ranges){0};
	uint64_t end = address + (uint64_t)page_count * PAGE_BYTES;

	files->scanned_pages += page_count;
	while (files->next < parent->count && parent->list[files->next].end <= address)
		files->next++;
	for (size_t i = files->next; i < parent->count && parent->list[i].start < end; i++) {
		uint64_t from = parent->list[i].start > address ? parent->list[i].start : address;
		uint64_t to = parent->list[i].end < end ? parent->list[i].end : end;

		files->kept_pages += (to - from) / PAGE_BYTES;
		TRY(pages_writer_put_in_parent(writer_of(sink), from, (to - from) / PAGE_BYTES));
	}
	return NULL;
}

void page_files_begin(struct page_files *files, int dir_fd, const struct ranges *parent)
{
	*files = (struct page_files){
		.sink = {.begin_shared = begin_shared, .put = put_pages, .drop = drop_pages, .keep = keep_pages},
		.dir_fd = dir_fd,
		.parent = parent,
		.next_pages_id = FIRST_PAGES_ID,
	};
}

static size_t find_own(const struct page_files *files, pid_t own_pid)
{
	size_t i = 0;

	while (i < files->own_count && files->own[i].pid != own_pid)
		i++;
	return i;
}

struct error *page_files_prepare(struct page_files *files, pid_t own_pid, size_t gather_bytes)
{
	struct own_pages own = {.pid = own_pid};

	if (find_own(files, own_pid) < files->own_count)
		return NULL;
	TRY(pages_writer_open(files->dir_fd, own_pid, files->next_pages_id++, &own.writer));
	if (gather_bytes)
		pages_writer_gather(own.writer, gather_bytes);
	files->own = xrealloc(files->own, (files->own_count + 1) * sizeof(*files->own));
	files->own[files->own_count++] = own;
	return NULL;
}

struct error *page_files_select(struct page_files *files, pid_t own_pid)
{
	TRY(page_files_prepare(files, own_pid, 0));
	files->own_current = find_own(files, own_pid);
	files->own[files->own_current].is_used = true;
	return NULL;
}

struct error *page_files_finish(struct page_files *files)
{
	TRY(sync_shared(files));
	for (size_t i = 0; i < files->own_count; i++)
		if (files->own[i].is_used)
			TRY(pages_writer_sync(files->own[i].writer));
	return NULL;
}

void page_files_keep(struct page_files *files)
{
	for (size_t i = 0; i < files->own_count; i++)
		if (files->own[i].is_used)
			pages_writer_keep(files->own[i].writer);
	for (size_t i = 0; i < files->shared_count; i++)
		pages_writer_keep(files->shared[i]);
}

void page_files_add_statistics(const struct page_files *files, struct dump_statistics *statistics)
{
	statistics->pages_scanned = files->scanned_pages;
	statistics->pages_kept = files->kept_pages;
	statistics->pages_written = 0;
	for (size_t i = 0; i < files->own_count; i++)
		statistics->pages_written += pages_writer_count(files->own[i].writer);
	for (size_t i = 0; i < files->shared_count; i++)
		statistics->pages_written += pages_writer_count(files->shared[i]);
}

void page_files_free(struct page_files *files)
{
	for (size_t i = 0; i < files->own_count; i++)
		pages_writer_free(files->own[i].writer);
	free(take(files->own));
	files->own_count = 0;
	for (size_t i = 0; i < files->shared_count; i++)
		pages_writer_free(files->shared[i]);
	free(take(files->shared));
	files->shared_count = files->synced_count = 0;
}

/* ---- Restoring ---- */

/* Where pages go: the memory of the task or, if shared is set, an object of shared memory. */
struct filling {
	struct memory *memory;
	struct shared_build *shared;
	uint64_t shared_id;
};

static struct error *fill_piece(const struct filling *filling, const struct pages_piece *piece)
{
	if (filling->shared)
		return shared_build_fill(filling->shared, filling->shared_id, piece->address, piece->bytes,
		                         piece->page_count);
	return memory_fill(filling->memory, piece->address, piece->bytes, piece->page_count);
}

static struct error *fill_ahead(const struct filling *filling, struct pages_reader *reader)
{
	auto_pages_ahead struct pages_ahead *ahead = NULL;
	struct pages_piece piece;

	TRY(pages_ahead_start(reader, &ahead));
	for (;;) {
		TRY(pages_ahead_next(ahead, &piece));
		if (piece.page_count == 0)
			return NULL;
		TRY(fill_piece(filling, &piece));
	}
}

/* Damaged pages may be the reason why they don't fit (a vDSO that seems to be another one), and are the one to tell. */
static struct error *fill_from(const struct filling *filling, struct pages_reader *reader)
{
	auto_error struct error *error = fill_ahead(filling, reader);

	TRY(pages_reader_verify(reader));
	return take(error);
}

static struct error *fill_shared(int dir_fd, struct filling *filling, struct shared_build *shared)
{
	filling->shared = shared;
	for (size_t index = 0; shared_build_next(shared, &index, &filling->shared_id);) {
		auto_pages_reader struct pages_reader *reader = NULL;

		TRY(pages_reader_open_shared(dir_fd, filling->shared_id, &reader));
		TRY(fill_from(filling, reader), "shared memory %" PRIu64, filling->shared_id);
	}
	return NULL;
}

struct error *page_files_fill(int dir_fd, pid_t pid, struct memory *memory)
{
	auto_pages_reader struct pages_reader *reader = NULL;
	struct filling filling = {.memory = memory};

	TRY(pages_reader_open(dir_fd, pid, &reader));
	return fill_from(&filling, reader);
}

struct error *page_files_fill_shared(int dir_fd, struct shared_build *shared)
{
	struct filling filling = {0};

	return fill_shared(dir_fd, &filling, shared);
}
