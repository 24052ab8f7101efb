/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/mapped_files.h"
#include "objects/memfd.h"
#include "objects/reg_file.h"
#include "util/alloc.h"

/* Ids of descriptions count from 1: far below. */
enum { FIRST_ID = 0x1000000 };

struct mapped_file {
	uint64_t device, inode;
	uint32_t flags; /* of open(2) */
	bool is_put;
	bool has_build_id; /* looked for */
	uint8_t build_id[BUILD_ID_MAX_BYTES];
	size_t build_id_bytes;
};

void mapped_files_free(struct mapped_files *files)
{
	free(files->list);
	*files = (struct mapped_files){0};
}

void mapped_files_begin(struct mapped_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		files->list[i].is_put = false;
}

static struct mapped_file *find_or_add(struct mapped_files *files, uint64_t device, uint64_t inode, uint32_t flags)
{
	for (size_t i = 0; i < files->count; i++) {
		struct mapped_file *file = &files->list[i];

		if (file->device == device && file->inode == inode && file->flags == flags)
			return file;
	}
	struct mapped_file *list = reallocarray(files->list, files->count + 1, sizeof(*list));
	if (!list)
		abort();
	files->list = list;
	list[files->count] = (struct mapped_file){.device = device, .inode = inode, .flags = flags};
	return &list[files->count++];
}

static uint32_t id_of(const struct mapped_files *files, const struct mapped_file *file)
{
	return FIRST_ID + (uint32_t)(file - files->list);
}

static struct reg_file describe(const struct mapped_files *files, const struct mapped_file *file, const char *source,
                                struct open_files *all)
{
	return (struct reg_file){
		.id = id_of(files, file),
		.source = source,
		.dev = file->device,
		.ino = file->inode,
		.flags = file->flags,
		.build_id = file->build_id,
		.build_id_bytes = file->build_id_bytes,
		.all = all,
		.ghost_limit_bytes = all->count ? all->list[0].options->ghost_limit_bytes : 0,
	};
}

static char *area_source(pid_t pid, const struct area *area)
{
	return xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, area->vma_start, area->vma_end);
}

/* How the file has to be open for this mapping: mmap(2). */
static uint32_t area_flags(const struct area *area)
{
	return area->entry.has_fdflags ? area->entry.fdflags : O_RDONLY;
}

static bool has_file(const struct area *area)
{
	return !area->trouble && area->entry.status & (AREA_FILE_PRIVATE | AREA_FILE_SHARED);
}

static void look_for_build_id(struct mapped_file *file, const char *source)
{
	auto_fd int fd = open(source, O_RDONLY | O_CLOEXEC);

	file->has_build_id = true;
	if (fd >= 0)
		file->build_id_bytes = reg_file_build_id(fd, file->build_id);
}

void mapped_files_check(struct mapped_files *files, pid_t pid, const struct areas *areas, struct open_files *all,
                        struct problems *problems)
{
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		if (!has_file(area) || area_maps_memfd(area))
			continue;
		auto_free char *source = area_source(pid, area);
		struct mapped_file *file = find_or_add(files, area->device, area->inode, area_flags(area));
		if (file->has_build_id)
			continue;
		look_for_build_id(file, source);
		struct reg_file reg_file = describe(files, file, source, all);
		problems_add(problems, error_wrap(reg_file_check(&reg_file), "mapping at %#" PRIx64 " (%s)",
		                                  area->entry.start, area->path));
	}
}

static struct error *put(struct mapped_files *files, struct mapped_file *file, const char *source,
                         struct open_files *all, struct image_store *store)
{
	if (file->is_put)
		return NULL;
	struct reg_file reg_file = describe(files, file, source, all);
	TRY(reg_file_put(&reg_file, store), "%s", source);
	file->is_put = true;
	return NULL;
}

void mapped_files_sketch(struct mapped_files *files, pid_t pid, const struct areas *areas, struct open_files *all,
                         struct image_store *store)
{
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];
		auto_free char *source = area_source(pid, area);
		struct stat stat_there;

		if (!has_file(area) || area_maps_memfd(area) || stat(source, &stat_there) < 0 ||
		    stat_there.st_nlink == 0)
			continue;
		struct mapped_file *file = find_or_add(files, area->device, area->inode, area_flags(area));
		error_free(put(files, file, source, all, store));
	}
}

static struct error *put_memfd(struct mapped_files *files, struct mapped_file *file, const char *source,
                               struct open_files *all, struct image_store *store)
{
	const struct memfd memfd = {.id = id_of(files, file), .source = source, .flags = file->flags, .all = all};

	if (file->is_put)
		return NULL;
	TRY(memfd_put(&memfd, store), "%s", source);
	file->is_put = true;
	return NULL;
}

struct error *mapped_files_put_area(struct mapped_files *files, pid_t pid, const struct area *area,
                                    struct open_files *all, struct image_store *store, uint32_t *ret_id)
{
	struct mapped_file *file = find_or_add(files, area->device, area->inode, area_flags(area));
	auto_free char *source = area_source(pid, area);

	if (area_maps_memfd(area))
		TRY(put_memfd(files, file, source, all, store));
	else
		TRY(put(files, file, source, all, store));
	*ret_id = id_of(files, file);
	return NULL;
}

struct error *mapped_files_put_link(struct mapped_files *files, pid_t pid, const char *name, struct open_files *all,
                                    struct image_store *store, uint32_t *ret_id)
{
	auto_free char *source = xformat("/proc/%d/%s", pid, name);
	struct stat stat_there;

	if (stat(source, &stat_there) < 0)
		return error_new(errno, "stat(%s)", source);
	uint32_t flags = S_ISDIR(stat_there.st_mode) ? O_RDONLY | O_DIRECTORY : O_RDONLY;
	struct mapped_file *file = find_or_add(files, stat_there.st_dev, stat_there.st_ino, flags);
	TRY(put(files, file, source, all, store));
	*ret_id = id_of(files, file);
	return NULL;
}
