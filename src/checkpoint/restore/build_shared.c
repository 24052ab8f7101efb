/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The shared memory of a process that is built: which objects there are is told by memfd.img and by the areas. They are
 * made before the areas that map them, filled by whoever reads the pages, and sealed when all else is in its place.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/restore/building.h"
#include "godwit-memory.pb-c.h"
#include "memory/areas.h"
#include "objects/memfd.h"
#include "objects/reg_file.h"
#include "util/alloc.h"

/* ---- Memfds ---- */

/* Calls for each entry of memfd.img. */
static struct error *each_memfd(const struct image_store *store, void *data,
                                struct error *(*call)(const MemfdInodeEntry *inode, void *data))
{
	for (size_t i = 0; i < image_count(store, IMAGE_MEMFD, 0); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_MEMFD, 0, i, &message));
		struct error *error = call((const MemfdInodeEntry *)message, data);
		memfd_inode_entry__free_unpacked((MemfdInodeEntry *)message, NULL);
		TRY(error);
	}
	return NULL;
}

static struct error *make_memfd(const MemfdInodeEntry *inode, void *data)
{
	struct build *build = data;
	int fd = -1;

	if (shared_build_find(build->shared, inode->shmid) < 0) {
		TRY(memfd_make(inode, &fd));
		shared_build_add(build->shared, inode->shmid, fd);
	}
	return shared_build_resize(build->shared, inode->shmid, inode->size, false);
}

struct giving {
	struct build *build;
	struct restore_files *files;
};

static struct error *give_memfd(const MemfdInodeEntry *inode, void *data)
{
	const struct giving *giving = data;
	int fd = fcntl(shared_build_find(giving->build->shared, inode->shmid), F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return error_new(errno, "memfd %s", inode->name);
	memfd_give(giving->files, inode->shmid, fd);
	return NULL;
}

struct error *build_shared_give(struct build *build, const struct image_store *store, struct restore_files *files)
{
	struct giving giving = {.build = build, .files = files};

	return each_memfd(store, &giving, give_memfd);
}

static struct error *seal_memfd(const MemfdInodeEntry *inode, void *data)
{
	struct build *build = data;

	TRY(shared_build_resize(build->shared, inode->shmid, inode->size, true), "memfd %s", inode->name);
	return memfd_seal(inode, shared_build_find(build->shared, inode->shmid));
}

struct error *build_shared_seal(struct build *build)
{
	TRY(each_memfd(build->store, build, seal_memfd));
	return build_segments_finish(build);
}

/* ---- Anonymous ---- */

static bool is_anonymous(const VmaEntry *vma)
{
	return vma->status & AREA_ANON_SHARED && !(vma->status & (AREA_MEMFD | AREA_SYSV));
}

/* 0: the image doesn't tell. */
static struct error *find_size(const struct image_store *store, uint64_t shmid, uint64_t *ret_size_bytes)
{
	*ret_size_bytes = 0;
	for (size_t i = 0; i < image_count(store, IMAGE_SHARED_MEMORY, 0); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_SHARED_MEMORY, 0, i, &message));
		SharedMemoryEntry *entry = (SharedMemoryEntry *)message;
		if (entry->shmid == shmid)
			*ret_size_bytes = entry->size;
		shared_memory_entry__free_unpacked(entry, NULL);
	}
	return NULL;
}

/* How far the areas that map it reach. */
static uint64_t mapped_size(const MmEntry *mm, uint64_t shmid)
{
	uint64_t size_bytes = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *vma = mm->vmas[i];
		uint64_t end = vma->pgoff + (vma->end - vma->start);

		if (is_anonymous(vma) && vma->shmid == shmid && end > size_bytes)
			size_bytes = end;
	}
	return size_bytes;
}

static struct error *make_anonymous(struct build *build, const struct image_store *store, const MmEntry *mm,
                                    const VmaEntry *vma)
{
	const uint32_t kept = MAP_NORESERVE | MAP_HUGETLB | (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;
	uint64_t size_bytes;

	if (shared_build_find(build->shared, vma->shmid) >= 0)
		return NULL;
	TRY(find_size(store, vma->shmid, &size_bytes));
	if (size_bytes == 0)
		size_bytes = mapped_size(mm, vma->shmid);
	return shared_build_make(build->shared, vma->shmid, size_bytes, (int)(vma->flags & kept));
}

struct error *build_shared_make(struct build *build, const struct image_store *store, const MmEntry *mm)
{
	TRY(each_memfd(store, build, make_memfd));
	for (size_t i = 0; i < mm->n_vmas; i++)
		if (is_anonymous(mm->vmas[i]))
			TRY(make_anonymous(build, store, mm, mm->vmas[i]), "area %#" PRIx64, mm->vmas[i]->start);
		else if (mm->vmas[i]->status & AREA_SYSV)
			TRY(build_segment_make(build, store, (uint32_t)mm->vmas[i]->shmid));
	return NULL;
}

struct error *build_shared_open(struct build *build, const VmaEntry *vma, int *ret_fd)
{
	int fd = shared_build_find(build->shared, vma->shmid);

	if (fd < 0)
		return error_new(EBADMSG, "shared memory %" PRIu64 " isn't there", vma->shmid);
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? error_new(errno, "dup") : NULL;
}
