/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/shared.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/number_map.h"
#include "util/own.h"

static struct shared_object *find_or_add(struct shared_objects *objects, uint64_t id, uint64_t inode,
                                         const char *source)
{
	uint64_t index;

	if (!objects->known)
		objects->known = number_map_new();
	if (number_map_find(objects->known, id, 0, &index))
		return &objects->list[index];
	number_map_add(objects->known, id, 0, objects->count);
	objects->list = xrealloc(objects->list, (objects->count + 1) * sizeof(*objects->list));
	objects->list[objects->count] = (struct shared_object){
		.id = id,
		.inode = inode,
		.source = xformat("%s", source),
	};
	return &objects->list[objects->count++];
}

void shared_objects_add_memfd(struct shared_objects *objects, uint64_t id, const char *source)
{
	find_or_add(objects, id, id, source)->is_memfd = true;
}

static void add_mapping(struct shared_object *object, pid_t pid, const struct area *area)
{
	object->mappings = xrealloc(object->mappings, (object->mapping_count + 1) * sizeof(*object->mappings));
	object->mappings[object->mapping_count++] = (struct shared_mapping){
		.pid = (uint64_t)pid,
		.start = area->entry.start,
		.end = area->entry.end,
		.offset = area->entry.pgoff,
	};
}

void shared_objects_add_areas(struct shared_objects *objects, pid_t pid, const struct areas *areas)
{
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		if (area_content(area) != AREA_CONTENT_SHARED && !area_maps_memfd(area))
			continue;
		auto_free char *source =
			xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, area->vma_start, area->vma_end);
		struct shared_object *object =
			find_or_add(objects, shared_area_id(&area->entry, area->inode), area->inode, source);
		object->is_memfd |= area_maps_memfd(area);
		if (area_content(area) == AREA_CONTENT_SHARED)
			add_mapping(object, pid, area);
	}
}

void shared_objects_free(struct shared_objects *objects)
{
	for (size_t i = 0; i < objects->count; i++) {
		free(objects->list[i].source);
		free(objects->list[i].mappings);
	}
	free(objects->list);
	number_map_free(objects->known);
	*objects = (struct shared_objects){0};
}

int shared_object_open(const struct shared_object *object)
{
	struct stat stat;
	auto_fd int fd = open(object->source, O_RDONLY | O_CLOEXEC | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = open(object->source, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) < 0)
		return negative_errno();
	return stat.st_ino == object->inode ? take(fd) : -ESTALE;
}
