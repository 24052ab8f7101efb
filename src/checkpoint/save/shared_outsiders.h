/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Other processes that map the program's shared memory: what they write would not be seen over there, and the other way
 * round. Those that have a descriptor of a memfd are found by its own check.
 */
#pragma once

#include "memory/areas.h"
#include "util/problems.h"

/* Reads /proc of all processes, if the program has shared memory: not in the freeze. */
void shared_outsiders_check(pid_t pid, const struct areas *areas, struct problems *problems);
