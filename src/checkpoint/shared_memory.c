/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <sys/stat.h>

#include "checkpoint/shared_memory.h"
#include "godwit-memory.pb-c.h"
#include "util/alloc.h"

static struct error *add_memfd(const struct open_file *file, void *data)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);

	shared_objects_add_memfd(data, file->stat.st_ino, source);
	return NULL;
}

struct error *shared_memory_add_memfds(const struct file_table *files, struct shared_objects *objects)
{
	return file_table_each(files, FD_TYPES__MEMFD, add_memfd, objects);
}

struct error *shared_memory_put(const struct shared_objects *objects, struct image_store *store)
{
	for (size_t i = 0; i < objects->count; i++) {
		SharedMemoryEntry entry = SHARED_MEMORY_ENTRY__INIT;
		struct stat stat_there;

		if (objects->list[i].id != objects->list[i].inode)
			continue; /* a segment has a message of its own */
		if (stat(objects->list[i].source, &stat_there) < 0)
			return error_new(errno, "stat(%s)", objects->list[i].source);
		entry.shmid = objects->list[i].id;
		entry.size = (uint64_t)stat_there.st_size;
		image_put(store, IMAGE_SHARED_MEMORY, 0, &entry.base);
	}
	return NULL;
}

static struct error *put_memfd(const struct open_file *file, void *data)
{
	return file_ops_of_type(FD_TYPES__MEMFD)->save(file, data);
}

struct error *shared_memory_put_memfds(const struct file_table *files, struct image_store *store)
{
	return file_table_each(files, FD_TYPES__MEMFD, put_memfd, store);
}
