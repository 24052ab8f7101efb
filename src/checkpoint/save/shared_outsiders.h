/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Other processes that map shared memory of the tree: what they write would not be seen over there, and the other way
 * round. Those that have a descriptor of a memfd are found by its own check.
 */
#pragma once

#include "memory/areas.h"
#include "objects/objects.h"
#include "util/number_map.h"
#include "util/problems.h"

/* What a process maps is added by inode and device; *objects is NULL at first, and stays so where nothing is. areas are
 * borrowed until the check. */
void shared_outsiders_add(const struct areas *areas, struct number_map **objects);

/* Reads /proc of all processes, if there is something, but of those tasks: not in the freeze. Empties objects. */
void shared_outsiders_check(struct number_map *objects, const struct open_task *tasks, size_t task_count,
                            struct problems *problems);
