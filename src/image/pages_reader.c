/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "image/input.h"
#include "image/pagemap.h"
#include "image/pages.h"
#include "image/sums.h"
#include "util/alloc.h"

/* Directories in a chain. Each one with pages costs a descriptor as long as the reader lives. */
enum { DEPTH_MAX = 256 };

/* pages-N.img of a directory. */
struct pages_file {
	int fd; /* owned; -1 where no pages are */
	char name[PAGEMAP_NAME_MAX];
	struct sums *sums; /* owned: of the directory; NULL: nothing is known of this file */
	struct sum *sum;   /* owned: of what has been read so far without a gap; NULL: see sums */
	uint64_t summed_bytes;
};

struct pages_reader {
	struct pagemap *pagemap; /* of the directory, resolved */
	size_t next;             /* run in it */
	size_t depth;            /* how many directories there are */
	struct pages_file files[DEPTH_MAX];
};

/* What is open while the chain is followed. */
struct chain {
	const char *name; /* of the pagemap */
	struct pages_reader *reader;
	struct pagemap *pagemaps[DEPTH_MAX];
	struct stat directories[DEPTH_MAX]; /* to notice a loop */
	size_t run_count;
};

static void chain_free(struct chain *chain)
{
	if (!chain)
		return;
	for (size_t i = 0; i < DEPTH_MAX; i++)
		pagemap_free(chain->pagemaps[i]);
	free(chain);
}
DEFINE_OWNED(struct chain *, chain_free)
#define auto_chain AUTO(chain_free)

/* Notes the directory as the next one of the chain. */
static struct error *chain_enter(struct chain *chain, int dir_fd)
{
	const size_t depth = chain->reader->depth;

	if (depth == DEPTH_MAX)
		return error_new(ELOOP, "more than %d directories, each the parent of another", DEPTH_MAX);
	if (fstat(dir_fd, &chain->directories[depth]) < 0)
		return error_new(errno, "fstat(directory of images)");
	for (size_t i = 0; i < depth; i++)
		if (chain->directories[i].st_ino == chain->directories[depth].st_ino &&
		    chain->directories[i].st_dev == chain->directories[depth].st_dev)
			return error_new(ELOOP, "the directory is a parent of itself");
	chain->reader->depth++;
	return NULL;
}

static struct error *read_pagemap(const struct chain *chain, int dir_fd, uint32_t depth, struct pagemap **ret_pagemap)
{
	auto_fd int fd = -1;
	size_t size_bytes;

	TRY(input_open(dir_fd, chain->name, &fd, &size_bytes));
	auto_file FILE *in = fdopen(fd, "re");
	if (!in)
		return error_new(errno, "fdopen(%s)", chain->name);
	take(fd); /* in has it now */
	return error_wrap(pagemap_read(in, depth, ret_pagemap), "%s", chain->name);
}

/* Opens pages-N.img, which must hold all that the pagemap says. */
static struct error *open_pages(const struct pagemap *pagemap, int dir_fd, const struct sums *sums,
                                struct pages_file *file)
{
	auto_fd int fd = -1;
	size_t size_bytes = 0;

	if (pagemap->page_count == 0)
		return NULL;
	snprintf(file->name, sizeof(file->name), "pages-%" PRIu32 ".img", pagemap->pages_id);
	TRY(input_open(dir_fd, file->name, &fd, &size_bytes));
	if (size_bytes / PAGE_BYTES < pagemap->page_count)
		return error_new(EBADMSG, "%s: has %zu bytes, too few for %llu pages", file->name, size_bytes,
		                 (unsigned long long)pagemap->page_count);
	file->fd = take(fd);
	file->sum = sums_has(sums, file->name) ? sum_new() : NULL;
	return NULL;
}

static struct error *chain_read(struct chain *chain, int dir_fd)
{
	const size_t depth = chain->reader->depth;
	struct pages_file *file = &chain->reader->files[depth % DEPTH_MAX];

	TRY(chain_enter(chain, dir_fd));
	TRY(sums_read(dir_fd, &file->sums));
	TRY(sums_check_file(file->sums, dir_fd, chain->name));
	TRY(read_pagemap(chain, dir_fd, (uint32_t)depth, &chain->pagemaps[depth]));
	chain->run_count += chain->pagemaps[depth]->count;
	if (chain->run_count > pagemap_runs_max)
		return error_new(E2BIG, "no more than %zu runs of pages are read", pagemap_runs_max);
	return open_pages(chain->pagemaps[depth], dir_fd, file->sums, file);
}

static struct error *open_parent(const struct pagemap *child, int dir_fd, int *ret_fd)
{
	const struct pagemap_run *run = pagemap_first_in_parent(child);
	int fd = openat(dir_fd, "parent", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_wrap(error_new(errno, "open directory \"parent\""), "pages at %#llx are in the parent",
		                  (unsigned long long)run->address);
	*ret_fd = fd;
	return NULL;
}

/* Reads the directory's pagemap, and those of its parents as far as they are needed. */
static struct error *chain_follow(struct chain *chain, int dir_fd)
{
	auto_fd int parent_fd = -1;
	int fd = dir_fd;

	TRY(chain_read(chain, fd));
	for (size_t i = 0; pagemap_first_in_parent(chain->pagemaps[i]); i++) {
		int next_fd = -1;

		TRY(open_parent(chain->pagemaps[i], fd, &next_fd));
		if (parent_fd >= 0)
			close(parent_fd);
		fd = parent_fd = next_fd;
		TRY(chain_read(chain, fd), "parent number %zu", i + 1);
	}
	return NULL;
}

/* Resolves each pagemap with its parent's, the oldest first. */
static struct error *chain_resolve(struct chain *chain)
{
	for (size_t i = chain->reader->depth - 1; i > 0; i--) {
		struct pagemap *resolved = NULL;

		TRY(pagemap_resolve(chain->pagemaps[i - 1], chain->pagemaps[i], &resolved), "%s", chain->name);
		pagemap_free(chain->pagemaps[i - 1]);
		chain->pagemaps[i - 1] = resolved;
	}
	chain->reader->pagemap = take(chain->pagemaps[0]);
	return NULL;
}

static struct error *reader_open(int dir_fd, const char *name, struct pages_reader **ret_reader)
{
	auto_pages_reader struct pages_reader *reader = xalloc(sizeof(*reader));
	auto_chain struct chain *chain = xalloc(sizeof(*chain));

	for (size_t i = 0; i < DEPTH_MAX; i++)
		reader->files[i].fd = -1;
	chain->name = name;
	chain->reader = reader;
	TRY(chain_follow(chain, dir_fd));
	TRY(chain_resolve(chain));
	*ret_reader = take(reader);
	return NULL;
}

struct error *pages_reader_open(int dir_fd, pid_t pid, struct pages_reader **ret_reader)
{
	char name[PAGEMAP_NAME_MAX];

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	return reader_open(dir_fd, name, ret_reader);
}

struct error *pages_reader_open_shared(int dir_fd, uint64_t shmid, struct pages_reader **ret_reader)
{
	char name[PAGEMAP_NAME_MAX];

	snprintf(name, sizeof(name), "pagemap-shmem-%" PRIu64 ".img", shmid);
	return reader_open(dir_fd, name, ret_reader);
}

bool pages_reader_next(struct pages_reader *reader, struct page_run *ret_run)
{
	if (reader->next == reader->pagemap->count)
		return false;
	const struct pagemap_run *run = &reader->pagemap->runs[reader->next++];
	*ret_run = (struct page_run){
		.address = run->address,
		.page_count = run->page_count,
		.depth = run->depth,
		.offset = run->offset,
	};
	return true;
}

static struct error *read_exactly(const struct pages_file *file, uint64_t offset, void *bytes, size_t size_bytes)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = pread(file->fd, (char *)bytes + done, size_bytes - done, (off_t)(offset + done));

		if (n < 0 && errno != EINTR)
			return error_new(errno, "read %s", file->name);
		if (n == 0)
			return error_new(EBADMSG, "%s: ends at %" PRIu64, file->name, offset + done);
		done += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

/* Sums up what comes next in the file; what is out of order is read once more by verify_file(). */
static void sum_up(struct pages_file *file, uint64_t offset, const void *bytes, size_t size_bytes)
{
	if (!file->sum || offset != file->summed_bytes)
		return;
	sum_add(file->sum, bytes, size_bytes);
	file->summed_bytes += size_bytes;
}

struct error *pages_reader_read(struct pages_reader *reader, const struct page_run *run, size_t first, void *ret_bytes,
                                size_t page_count)
{
	struct pages_file *file = &reader->files[run->depth];
	uint64_t offset = run->offset + (uint64_t)first * PAGE_BYTES;

	TRY(read_exactly(file, offset, ret_bytes, page_count * PAGE_BYTES));
	sum_up(file, offset, ret_bytes, page_count * PAGE_BYTES);
	return NULL;
}

static struct error *verify_file(struct pages_file *file)
{
	enum { PIECE_BYTES = 256 << 10 };
	auto_free void *buffer = xalloc(PIECE_BYTES);
	struct stat stat;

	if (fstat(file->fd, &stat) < 0)
		return error_new(errno, "fstat(%s)", file->name);
	while (file->summed_bytes < (uint64_t)stat.st_size) {
		uint64_t left = (uint64_t)stat.st_size - file->summed_bytes;
		size_t size_bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;

		TRY(read_exactly(file, file->summed_bytes, buffer, size_bytes));
		sum_up(file, file->summed_bytes, buffer, size_bytes);
	}
	return sums_check(file->sums, file->name, file->sum);
}

struct error *pages_reader_verify(struct pages_reader *reader)
{
	for (size_t i = 0; i < reader->depth; i++)
		if (reader->files[i].sum)
			TRY(verify_file(&reader->files[i]));
	return NULL;
}

static void file_free(struct pages_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	sum_free(file->sum);
	sums_free(file->sums);
}

void pages_reader_free(struct pages_reader *reader)
{
	if (!reader)
		return;
	for (size_t i = 0; i < DEPTH_MAX; i++)
		file_free(&reader->files[i]);
	pagemap_free(reader->pagemap);
	free(reader);
}
