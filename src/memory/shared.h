/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared memory: MAP_SHARED|MAP_ANONYMOUS and memfds.
 *
 * What it holds is not what the process's page tables say (a page that another mapping or write(2) put there is in no
 * table), it may be mapped more than once or, a memfd, not at all. So it is read as what it is: a file, through a link of
 * /proc, and told by an id of its own.
 */
#pragma once

#include "memory/areas.h"

struct shared_mapping {
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* of start, in the object */
};

struct shared_object {
	uint64_t id;                     /* its inode: the kernel counts those of all its own file systems together */
	char *source;                    /* owned: a link of /proc that leads to it */
	bool is_memfd;                   /* there may be descriptors to change it by */
	struct shared_mapping *mappings; /* owned: shared ones */
	size_t mapping_count;
};

struct number_map;

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
