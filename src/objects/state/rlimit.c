/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Resource limits: getrlimit(2). Asked by the process itself, since prlimit(2) on a task of another user wants
 * CAP_SYS_RESOURCE.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "objects/state.h"
#include "util/alloc.h"

struct answers {
	struct arg limits[RLIM_NLIMITS];
};

static void *rlimit_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	for (uint64_t i = 0; i < RLIM_NLIMITS; i++) {
		answers->limits[i] = batch_space(batch, sizeof(struct rlimit));
		batch_call(batch, getrlimit, val(i), answers->limits[i]);
	}
	return answers;
}

static struct error *rlimit_save(const struct state_save *state, const void *collected, const void *asked,
                                 const struct batch *batch)
{
	const struct answers *answers = asked;
	TaskRlimitsEntry *limits = xalloc(sizeof(*limits));

	(void)collected;
	task_rlimits_entry__init(limits);
	limits->n_rlimits = RLIM_NLIMITS;
	limits->rlimits = xalloc(RLIM_NLIMITS * sizeof(RlimitEntry *));
	for (size_t i = 0; i < RLIM_NLIMITS; i++) {
		RlimitEntry *entry = xalloc(sizeof(*entry));
		struct rlimit limit;

		memcpy(&limit, batch_output(batch, answers->limits[i]), sizeof(limit));
		rlimit_entry__init(entry);
		entry->cur = limit.rlim_cur;
		entry->max = limit.rlim_max;
		limits->rlimits[i] = entry;
	}
	state->core->tc->rlimits = limits;
	return NULL;
}

/* A limit that is as it should be isn't set: raising the hard one may be forbidden here. */
static struct error *rlimit_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskRlimitsEntry *limits = state->core->tc->rlimits;

	if (limits && limits->n_rlimits > RLIM_NLIMITS)
		return error_new(EBADMSG, "%zu resource limits", limits->n_rlimits);
	for (size_t i = 0; limits && i < limits->n_rlimits; i++) {
		const struct rlimit limit = {.rlim_cur = limits->rlimits[i]->cur, .rlim_max = limits->rlimits[i]->max};
		struct rlimit now;

		if (prlimit(state->pid, (__rlimit_resource_t)i, NULL, &now) < 0)
			return error_new(errno, "prlimit(%d, %zu)", state->pid, i);
		if (memcmp(&now, &limit, sizeof(now)) != 0)
			batch_call(batch, setrlimit, val(i), batch_bytes(batch, &limit, sizeof(limit)));
	}
	return NULL;
}

const struct state_ops rlimit_ops = {
	.name = "rlimit",
	.scope = STATE_PROCESS,
	.ask = rlimit_ask,
	.save = rlimit_save,
	.restore = rlimit_restore,
};
