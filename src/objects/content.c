/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ghost-file.pb-c.h"
#include "objects/content.h"

/* The most in a chunk: a buffer of that size fits on the stack. */
enum { CHUNK_BYTES = 64 * 1024 };

struct saving {
	int fd;
	uint8_t *buffer; /* of CHUNK_BYTES */
	struct image_store *store;
	enum image_kind kind;
	uint64_t id;
};

/* Huge pages have no holes that lseek(2) could tell, and each that is written is taken from a small pool. */
static bool is_left_out(int fd, const uint8_t *bytes, size_t size_bytes)
{
	struct stat stat;

	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0 && fstat(fd, &stat) == 0 &&
	       stat.st_blksize > 65536;
}

/* One chunk at offset, at most up to end. */
static struct error *save_chunk(const struct saving *saving, uint64_t offset, uint64_t end, uint64_t *ret_end)
{
	GhostChunkEntry chunk = GHOST_CHUNK_ENTRY__INIT;
	size_t size_bytes = end - offset < CHUNK_BYTES ? end - offset : CHUNK_BYTES;

	ssize_t count = pread(saving->fd, saving->buffer, size_bytes, (off_t)offset);
	if (count < 0)
		return error_new(errno, "read at offset %llu", (unsigned long long)offset);
	if (count == 0)
		return error_new(EAGAIN, "the file became shorter while it was read");

	*ret_end = offset + (uint64_t)count;
	if (is_left_out(saving->fd, saving->buffer, (size_t)count))
		return NULL;
	chunk.off = offset;
	chunk.len = (uint64_t)count;
	image_put(saving->store, saving->kind, saving->id, &chunk.base);
	image_put_bytes(saving->store, saving->kind, saving->id, saving->buffer, (size_t)count);
	return NULL;
}

struct error *content_save(int fd, struct image_store *store, enum image_kind kind, uint64_t id)
{
	uint8_t buffer[CHUNK_BYTES];
	const struct saving saving = {.fd = fd, .buffer = buffer, .store = store, .kind = kind, .id = id};
	uint64_t offset = 0;

	for (;;) {
		/* A file system without holes (hugetlbfs) says that all is data: lseek(2). */
		off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return NULL;
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return error_new(errno, "look for data behind offset %llu", (unsigned long long)offset);

		for (offset = (uint64_t)data; offset < (uint64_t)hole;)
			TRY(save_chunk(&saving, offset, (uint64_t)hole, &offset));
	}
}

/* Huge pages can't be written with write(2): hugetlbfs has none. */
static struct error *write_mapped(int fd, const void *bytes, size_t size_bytes, uint64_t offset)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat");
	uint8_t *map = mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return error_new(errno, "map %lld bytes of huge pages", (long long)stat.st_size);
	memcpy(map + offset, bytes, size_bytes);
	munmap(map, (size_t)stat.st_size);
	return NULL;
}

struct error *content_write(int fd, const void *bytes, size_t size_bytes, uint64_t offset)
{
	const uint8_t *next = bytes;

	while (size_bytes > 0) {
		ssize_t count = pwrite(fd, next, size_bytes, (off_t)offset);

		if (count < 0 && errno == EINVAL)
			return write_mapped(fd, next, size_bytes, offset);
		if (count < 0)
			return error_new(errno, "write %zu bytes at offset %llu", size_bytes,
			                 (unsigned long long)offset);
		next += count;
		offset += (uint64_t)count;
		size_bytes -= (size_t)count;
	}
	return NULL;
}

static void chunk_free(GhostChunkEntry *chunk)
{
	if (chunk)
		ghost_chunk_entry__free_unpacked(chunk, NULL);
}
DEFINE_OWNED(GhostChunkEntry *, chunk_free)

static struct error *restore_chunk(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index,
                                   uint64_t file_bytes, int fd)
{
	AUTO(chunk_free) GhostChunkEntry *chunk = NULL;
	const uint8_t *bytes;
	size_t size_bytes;
	uint64_t end;

	TRY(image_get(store, kind, id, index, (ProtobufCMessage **)&chunk));
	image_get_bytes(store, kind, id, index, &bytes, &size_bytes);
	if (size_bytes != chunk->len || __builtin_add_overflow(chunk->off, chunk->len, &end) || end > file_bytes)
		return error_new(EBADMSG, "chunk of %llu bytes at offset %llu of a file of %llu bytes",
		                 (unsigned long long)chunk->len, (unsigned long long)chunk->off,
		                 (unsigned long long)file_bytes);
	return content_write(fd, bytes, size_bytes, chunk->off);
}

struct error *content_restore(const struct image_store *store, enum image_kind kind, uint64_t id, size_t first, int fd)
{
	size_t count = image_count(store, kind, id);
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat");
	for (size_t i = first; i < count; i++)
		TRY(restore_chunk(store, kind, id, i, (uint64_t)stat.st_size, fd));
	return NULL;
}
