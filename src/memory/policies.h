/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * NUMA policies of areas: mbind(2). Which areas may have one is told by areas_read(); only the process itself can tell
 * which one it is, and whether it is the area's own or that of a thread. Those of threads are a part of their state.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/attributes.h"

struct areas;
struct batch;
struct error;
struct process;

enum { POLICY_NODES_MAX = 1024 }; /* MAX_NUMNODES of Linux on x86-64 */

struct numa_policy {
	uint32_t mode; /* MPOL_ of set_mempolicy(2), with its flags */
	uint64_t nodes[POLICY_NODES_MAX / 64];
};

/* Asks the process, which is parked, and sets area->policy. */
MUST_USE struct error *policies_ask(struct process *process, struct areas *areas);

/* Sets it for an area of the task that runs the batch. Less than POLICY_NODES_MAX / 64 nodes are filled up with 0. */
void policy_append(struct batch *batch, uint64_t start, uint64_t end, uint32_t mode, const uint64_t *nodes,
                   size_t node_words);
