/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared memory: MAP_SHARED|MAP_ANONYMOUS and memfds.
 *
 * What it holds is not what the process's page tables say (a page that another mapping or write(2) put there is in no
 * table), and it may be mapped more than once. So it is read as what it is: a file, through /proc/PID/map_files.
 */
#pragma once

#include "memory/areas.h"

/* A part of an area of shared memory that no area before it maps too. */
struct shared_part {
	const struct area *area; /* borrowed */
	uint64_t start, end;     /* addresses */
};

struct shared_parts {
	struct shared_part *list; /* owned; ascending */
	size_t count;
};

struct shared_parts shared_parts_of(const struct areas *areas);
void shared_parts_free(struct shared_parts *parts);
#define auto_shared_parts __attribute__((cleanup(shared_parts_free)))

/* Opens what an area maps for reading, without a trace in its times. The caller closes it. */
MUST_USE struct error *area_open_file(pid_t pid, const struct area *area, int *ret_fd);

/* The first run of addresses at or behind *start in the area where the file has data: lseek(2), SEEK_DATA. False: there
 * is none before end. */
bool shared_next_data(int fd, const struct area *area, uint64_t *start, uint64_t *end);
