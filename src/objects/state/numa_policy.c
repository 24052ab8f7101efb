/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * On which NUMA nodes a thread takes memory: set_mempolicy(2). What mbind(2) says about an area goes with the areas.
 *
 * Where the next host has none of the nodes that is an error there, before the program is stopped: nobody but the user
 * knows what is meant instead.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <unistd.h>

#include "objects/state.h"
#include "util/alloc.h"

enum { NODES_MAX = 1024, WORDS = NODES_MAX / 64, MAXNODE = NODES_MAX + 1 };

struct answers {
	struct arg call, mode, nodes;
};

static void *numa_policy_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->mode = batch_space(batch, sizeof(uint64_t));
	answers->nodes = batch_space(batch, NODES_MAX / 8);
	answers->call = batch_call(batch, get_mempolicy, answers->mode, answers->nodes, val(MAXNODE), val(0), val(0));
	batch_may_fail(batch, answers->call); /* a kernel without NUMA */
	return answers;
}

static struct error *numa_policy_save(const struct state_save *state, const void *collected, const void *asked,
                                      const struct batch *batch)
{
	const struct answers *answers = asked;
	GodwitThreadEntry *extra = state->extra;
	int mode;

	(void)collected;
	if (batch_result(batch, answers->call) < 0)
		return NULL;
	memcpy(&mode, batch_output(batch, answers->mode), sizeof(mode));
	if (mode == MPOL_DEFAULT)
		return NULL;
	extra->has_numa_policy = true;
	extra->numa_policy = (uint32_t)mode;
	extra->n_numa_nodes = WORDS;
	extra->numa_nodes = xalloc(WORDS * sizeof(uint64_t));
	memcpy(extra->numa_nodes, batch_output(batch, answers->nodes), WORDS * sizeof(uint64_t));
	return NULL;
}

static void take_nodes(const GodwitThreadEntry *extra, uint64_t nodes[WORDS])
{
	memcpy(nodes, extra->numa_nodes,
	       (extra->n_numa_nodes < WORDS ? extra->n_numa_nodes : WORDS) * sizeof(uint64_t));
}

/* The kernel that would have to follow it says whether it can, about us, who have none. */
static struct error *numa_policy_preflight(const struct state_restore *state)
{
	const GodwitThreadEntry *extra = state->extra;
	uint64_t nodes[WORDS] = {0};

	if (!extra->has_numa_policy)
		return NULL;
	take_nodes(extra, nodes);
	if (syscall(SYS_set_mempolicy, (long)extra->numa_policy, nodes, (long)MAXNODE) < 0)
		return error_hint(error_new(errno, "set_mempolicy(%#x, nodes %#llx …)", extra->numa_policy,
		                            (unsigned long long)nodes[0]),
		                  "the program is bound to NUMA nodes that aren't here: start it without numactl(8)");
	syscall(SYS_set_mempolicy, (long)MPOL_DEFAULT, NULL, 0L);
	return NULL;
}

static struct error *numa_policy_restore(const struct state_restore *state, struct batch *batch)
{
	const GodwitThreadEntry *extra = state->extra;
	uint64_t nodes[WORDS] = {0};

	if (!extra->has_numa_policy)
		return NULL;
	take_nodes(extra, nodes);
	batch_call(batch, set_mempolicy, val(extra->numa_policy), batch_bytes(batch, nodes, sizeof(nodes)),
	           val(MAXNODE));
	return NULL;
}

const struct state_ops numa_policy_ops = {
	.name = "NUMA policy",
	.scope = STATE_THREAD,
	.ask = numa_policy_ask,
	.save = numa_policy_save,
	.preflight = numa_policy_preflight,
	.restore = numa_policy_restore,
};
