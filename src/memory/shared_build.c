/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/shared_build.h"
#include "util/alloc.h"
#include "util/number_map.h"

struct object {
	uint64_t id;
	int fd;              /* owned */
	uint64_t huge_bytes; /* of its pages; 0: it has ordinary ones */
};

struct shared_build {
	struct object *list; /* owned */
	size_t count;
	struct number_map *indexes; /* owned: id, 0 */
};

struct shared_build *shared_build_new(void)
{
	struct shared_build *shared = xalloc(sizeof(*shared));

	shared->indexes = number_map_new();
	return shared;
}

void shared_build_free(struct shared_build *shared)
{
	if (!shared)
		return;
	for (size_t i = 0; i < shared->count; i++)
		close(shared->list[i].fd);
	free(shared->list);
	number_map_free(shared->indexes);
	free(shared);
}

static struct object *find(const struct shared_build *shared, uint64_t id)
{
	uint64_t index;

	return number_map_find(shared->indexes, id, 0, &index) ? &shared->list[index] : NULL;
}

int shared_build_find(const struct shared_build *shared, uint64_t id)
{
	const struct object *object = find(shared, id);

	return object ? object->fd : -1;
}

bool shared_build_next(const struct shared_build *shared, size_t *index, uint64_t *ret_id)
{
	if (*index >= shared->count)
		return false;
	*ret_id = shared->list[(*index)++].id;
	return true;
}

/* ---- Making ---- */

void shared_build_add(struct shared_build *shared, uint64_t id, int fd)
{
	struct stat stat = {0};

	fstat(fd, &stat); /* of a descriptor of ours: it can't fail */
	shared->list = xrealloc(shared->list, (shared->count + 1) * sizeof(*shared->list));
	shared->list[shared->count] = (struct object){
		.id = id,
		.fd = fd,
		/* st_blksize is the size of its pages on hugetlbfs: stat(2) */
		.huge_bytes = stat.st_blksize > PAGE_BYTES ? (uint64_t)stat.st_blksize : 0,
	};
	number_map_add(shared->indexes, id, 0, shared->count++);
}

/* Its file, by the mapping: it has no other name. */
static int open_mapping(const void *at, uint64_t size_bytes)
{
	auto_free char *path = xformat("/proc/self/map_files/%" PRIxPTR "-%" PRIx64, (uintptr_t)at,
	                               (uint64_t)(uintptr_t)at + size_bytes);

	return open(path, O_RDWR | O_CLOEXEC);
}

struct error *shared_build_make(struct shared_build *shared, uint64_t id, uint64_t size_bytes, int map_flags)
{
	void *at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | map_flags, -1, 0);

	if (at == MAP_FAILED)
		return error_new(errno, "map %" PRIu64 " bytes of shared memory", size_bytes);
	int fd = open_mapping(at, size_bytes);
	int open_errno = errno;
	munmap(at, size_bytes);
	if (fd < 0)
		return error_hint(error_new(open_errno, "open shared memory by /proc/self/map_files"),
		                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this");
	shared_build_add(shared, id, fd);
	return NULL;
}

struct error *shared_build_resize(struct shared_build *shared, uint64_t id, uint64_t size_bytes, bool is_final)
{
	struct object *object = find(shared, id);
	struct stat stat;

	if (!object || size_bytes > INT64_MAX)
		return error_new(EBADMSG, "size %" PRIu64 " of shared memory %" PRIu64, size_bytes, id);
	if (fstat(object->fd, &stat) < 0)
		return error_new(errno, "fstat");
	if (!is_final && (uint64_t)stat.st_size >= size_bytes)
		return NULL;
	if (ftruncate(object->fd, (off_t)size_bytes) < 0)
		return error_new(errno, "ftruncate(%" PRIu64 ") of shared memory %" PRIu64, size_bytes, id);
	return NULL;
}

/* ---- Filling ---- */

/* hugetlbfs has no write(2). A page that can't be had is an error here, and SIGBUS in a mapping. */
static struct error *write_huge(const struct object *object, uint64_t offset, const void *bytes, size_t size_bytes)
{
	uint64_t start = offset & ~(object->huge_bytes - 1);

	if (offset + size_bytes > start + object->huge_bytes)
		return error_new(EBADMSG, "pages at %#" PRIx64 " are in two huge ones", offset);
	if (fallocate(object->fd, 0, (off_t)start, (off_t)object->huge_bytes) < 0)
		return error_hint(error_new(errno, "a huge page of %" PRIu64 " kB", object->huge_bytes / 1024),
		                  "more of them are needed: sysctl vm.nr_hugepages");
	uint8_t *map = mmap(NULL, object->huge_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, object->fd,
	                    (off_t)start);
	if (map == MAP_FAILED)
		return error_new(errno, "map a huge page");
	if (bytes)
		memcpy(map + (offset - start), bytes, size_bytes);
	else
		memset(map + (offset - start), 0, size_bytes);
	munmap(map, object->huge_bytes);
	return NULL;
}

static struct error *write_all(int fd, uint64_t offset, const uint8_t *bytes, size_t size_bytes)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = pwrite(fd, bytes + done, size_bytes - done, (off_t)(offset + done));

		if (n <= 0)
			return error_new(n < 0 ? errno : EIO, "write to shared memory at %" PRIu64, offset + done);
		done += (size_t)n;
	}
	return NULL;
}

static struct error *find_to_fill(const struct shared_build *shared, uint64_t id, struct object **ret_object)
{
	*ret_object = find(shared, id);
	return *ret_object ? NULL : error_new(EBADMSG, "pages of shared memory %" PRIu64 ", which isn't there", id);
}

struct error *shared_build_fill(struct shared_build *shared, uint64_t id, uint64_t offset, const void *bytes,
                                size_t page_count)
{
	size_t size_bytes = page_count * PAGE_BYTES;
	struct object *object;

	TRY(find_to_fill(shared, id, &object));
	if (!object->huge_bytes)
		return write_all(object->fd, offset, bytes, size_bytes);
	for (size_t done = 0; done < size_bytes; done += PAGE_BYTES)
		TRY(write_huge(object, offset + done, (const uint8_t *)bytes + done, PAGE_BYTES));
	return NULL;
}

struct error *shared_build_drop(struct shared_build *shared, uint64_t id, uint64_t offset, size_t page_count)
{
	size_t size_bytes = page_count * PAGE_BYTES;
	struct object *object;

	TRY(find_to_fill(shared, id, &object));
	for (size_t done = 0; object->huge_bytes && done < size_bytes; done += PAGE_BYTES)
		TRY(write_huge(object, offset + done, NULL, PAGE_BYTES));
	if (!object->huge_bytes &&
	    fallocate(object->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size_bytes) < 0)
		return error_new(errno, "hole of %zu bytes in shared memory at %" PRIu64, size_bytes, offset);
	return NULL;
}
