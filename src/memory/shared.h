/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared memory: MAP_SHARED|MAP_ANONYMOUS, memfds, and System V segments.
 *
 * What it holds is not what the process's page tables say (a page that another mapping or write(2) put there is in no
 * table), it may be mapped more than once or, a memfd, not at all. So it is read as what it is: a file, through a link of
 * /proc, and told by an id of its own.
 */
#pragma once

#include "memory/areas.h"

struct shared_mapping {
	uint64_t pid;        /* whose */
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* of start, in the object */
};

struct shared_object {
	uint64_t id;                     /* shared_area_id(), or the inode of a memfd; not 0 */
	uint64_t inode;                  /* st_ino of stat(2) */
	char *source;                    /* owned: a link of /proc that leads to it */
	bool is_memfd;                   /* there may be descriptors to change it by */
	struct shared_mapping *mappings; /* owned: shared ones */
	size_t mapping_count;
};

struct number_map;

/*
 * What tells an object from all others. Its inode: the kernel counts those of its own file systems together, in 32 bits.
 * But a System V segment's inode is its id (shmget(2)), which begins at 0 and is nobody's in that order; so those come
 * behind all others.
 */
static inline uint64_t shared_id_of_sysv(uint64_t sysv_id)
{
	return (UINT64_C(1) << 32) + sysv_id;
}

static inline uint64_t shared_area_id(const VmaEntry *vma, uint64_t inode)
{
	return vma->status & AREA_SYSV ? shared_id_of_sysv(inode) : inode;
}

/* Each object once. Begin with {0}. */
struct shared_objects {
	struct shared_object *list; /* owned */
	size_t count;
	struct number_map *known; /* owned: ids */
};

/* What areas of shared memory map. */
void shared_objects_add_areas(struct shared_objects *objects, pid_t pid, const struct areas *areas);
/* A memfd. Copies source. */
void shared_objects_add_memfd(struct shared_objects *objects, uint64_t id, const char *source);
void shared_objects_free(struct shared_objects *objects); /* what it points to */
#define auto_shared_objects __attribute__((cleanup(shared_objects_free)))

/* Opens it for reading, without a trace in its times. The caller closes it. -ESTALE: the link leads elsewhere by now. */
int shared_object_open(const struct shared_object *object);
