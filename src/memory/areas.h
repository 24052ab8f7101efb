/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The areas (VMAs) of a process: reading them from a running or frozen one, comparing two states of them.
 *
 * An area is told in the image's own terms, a vma_entry, beside what /proc says that the image has no field for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mm.pb-c.h"
#include "util/error.h"

struct area {
	VmaEntry entry;  /* start, end, pgoff, prot, flags (MAP_*), status (VMA_*), madv; shmid is left 0 */
	uint64_t device; /* st_dev and st_ino of the mapped file; 0: anonymous */
	uint64_t inode;
	char *path;               /* owned: as in maps, without " (deleted)"; NULL: anonymous and without a name */
	bool is_deleted;          /* the mapped file has no name any more */
	bool is_anonymous_shared; /* MAP_SHARED|MAP_ANONYMOUS, or a memfd */
};

struct areas {
	struct area *list; /* owned; ascending */
	size_t count;
};

/* Reads maps and, for attributes (madvise, locked, grows-down, no-reserve, hugetlb …), smaps: the latter costs 5 to 7
 * ms per GB, so areas_refresh() is for the freeze. Areas that can't be carried are an error that names them all:
 * device memory, AIO rings, io_uring rings, shadow stacks, uprobes. */
MUST_USE struct error *areas_read(pid_t pid, struct areas *ret_areas);

/* As areas_read(), but from one read of maps, with the attributes of unchanged areas taken from known. Areas that are
 * not in known are looked up one by one. Runs frozen. */
MUST_USE struct error *areas_refresh(pid_t pid, const struct areas *known, struct areas *ret_areas);

/* The area that has address in it, or NULL. */
const struct area *areas_find(const struct areas *areas, uint64_t address);

void areas_free(struct areas *areas); /* what it points to, not itself; leaves it empty */
#define auto_areas __attribute__((cleanup(areas_free)))
