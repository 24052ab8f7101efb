/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What kind of area a line of maps tells of.
 *
 * The kernel shows names there that a file may have just as well ("/memfd:x (deleted)", "/dev/zero"). So shared memory
 * is told by the device it is on: that of the kernel's own tmpfs, which nobody can mount.
 */
#pragma once

#include "memory/areas.h"

struct area_kinds {
	pid_t pid;
	uint64_t shared_memory_device; /* st_dev of a memfd */
};

MUST_USE struct error *area_kinds_new(pid_t pid, struct area_kinds *ret_kinds);

/* Completes an area as maps_parse_line() and smaps_parse_attribute() made it: status, MAP_ANONYMOUS, fdflags, its path
 * and whether that is deleted, trouble. */
void area_kinds_complete(const struct area_kinds *kinds, struct area *area);

/* Marks the areas that may have a NUMA policy: /proc/PID/numa_maps. Kernels without NUMA have no such file. */
MUST_USE struct error *areas_mark_policies(pid_t pid, struct areas *areas);

/* Makes areas of their own of guard regions. */
MUST_USE struct error *areas_split_guards(pid_t pid, struct areas *areas);
