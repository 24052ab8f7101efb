/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* How much memory the control groups allow that a program would be in which is restored here: cgroup_home_new(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cgroup_memory {
	uint64_t left_bytes; /* what files have in the cache can be had, too */
	char *group;         /* owned: the folder of the group with the least */
};

/* False, and nothing to free, where there is no limit. */
bool cgroup_memory_read(struct cgroup_memory *ret_memory);
