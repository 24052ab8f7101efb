/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <inttypes.h>
#include <linux/mempolicy.h>
#include <string.h>

#include "memory/areas.h"
#include "memory/policies.h"
#include "task/process.h"
#include "util/alloc.h"

enum {
	AREAS_AT_ONCE = 48,             /* an answer takes 136 bytes of a batch */
	MAXNODE = POLICY_NODES_MAX + 1, /* the kernel takes it as one more than the bits: set_mempolicy(2) */
};

struct question {
	struct area *area;
	struct arg call, mode, nodes;
};

static struct question ask(struct batch *batch, struct area *area)
{
	struct question question = {
		.area = area,
		.mode = batch_space(batch, sizeof(uint64_t)),
		.nodes = batch_space(batch, POLICY_NODES_MAX / 8),
	};

	question.call = batch_call(batch, get_mempolicy, question.mode, question.nodes, val(MAXNODE),
	                           val(area->entry.start), val(MPOL_F_ADDR));
	batch_may_fail(batch, question.call); /* a kernel without NUMA */
	return question;
}

static void take_answer(const struct batch *batch, const struct question *question)
{
	struct numa_policy *policy;
	int mode;

	if (batch_result(batch, question->call) < 0)
		return;
	memcpy(&mode, batch_output(batch, question->mode), sizeof(mode));
	if (mode == MPOL_DEFAULT)
		return;
	policy = xalloc(sizeof(*policy));
	policy->mode = (uint32_t)mode;
	memcpy(policy->nodes, batch_output(batch, question->nodes), sizeof(policy->nodes));
	question->area->policy = policy;
}

static struct error *ask_some(struct process *process, struct areas *areas, size_t *next)
{
	auto_batch struct batch *batch = process_batch(process, 0);
	struct question questions[AREAS_AT_ONCE];
	size_t count = 0;

	for (; *next < areas->count && count < AREAS_AT_ONCE; ++*next)
		if (areas->list[*next].extra & AREA_POLICY)
			questions[count++] = ask(batch, &areas->list[*next]);
	if (count == 0)
		return NULL;
	TRY(process_run(process, batch), "NUMA policies");
	for (size_t i = 0; i < count; i++)
		take_answer(batch, &questions[i]);
	return NULL;
}

struct error *policies_ask(struct process *process, struct areas *areas)
{
	for (size_t next = 0; next < areas->count;)
		TRY(ask_some(process, areas, &next));
	return NULL;
}

void policy_append(struct batch *batch, uint64_t start, uint64_t end, uint32_t mode, const uint64_t *nodes,
                   size_t node_words)
{
	struct numa_policy policy = {0};

	memcpy(policy.nodes, nodes, (node_words < POLICY_NODES_MAX / 64 ? node_words : POLICY_NODES_MAX / 64) * 8);
	batch_call(batch, mbind, val(start), val(end - start), val(mode),
	           batch_bytes(batch, policy.nodes, sizeof(policy.nodes)), val(MAXNODE), val(0));
}
