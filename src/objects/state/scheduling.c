/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How a thread is scheduled: policy, priority and nice value (sched(7)), from outside. The image has no field for what
 * SCHED_DEADLINE needs: that is refused. Affinity isn't carried: see docs/limits.md.
 */
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "objects/state.h"

enum { POLICY_DEADLINE = 6 };

static struct error *scheduling_check(pid_t pid, pid_t tid, const struct carry_options *options)
{
	(void)pid;
	(void)options;
	if (sched_getscheduler(tid) == POLICY_DEADLINE)
		return error_new(ENOTSUP, "SCHED_DEADLINE");
	return NULL;
}

static struct error *scheduling_save(const struct state_save *state, const void *collected, const void *asked,
                                     const struct batch *batch)
{
	ThreadCoreEntry *core = state->core->thread_core;
	pid_t tid = state->thread->tid;
	struct sched_param param = {0};

	(void)collected;
	(void)asked;
	(void)batch;
	int policy = sched_getscheduler(tid);
	if (policy < 0 || sched_getparam(tid, &param) < 0)
		return error_new(errno, "sched_getscheduler(%d)", tid);
	core->has_sched_policy = true;
	core->sched_policy = (uint32_t)policy;
	core->has_sched_prio = true;
	core->sched_prio = (uint32_t)param.sched_priority;
	core->has_sched_nice = true;
	core->sched_nice = getpriority(PRIO_PROCESS, (id_t)tid);
	return NULL;
}

static struct error *scheduling_restore(const struct state_restore *state, struct batch *batch)
{
	const ThreadCoreEntry *core = state->core->thread_core;
	const struct sched_param param = {.sched_priority = (int)core->sched_prio};
	pid_t tid = state->tid;

	(void)batch;
	if (core->has_sched_policy && sched_setscheduler(tid, (int)core->sched_policy, &param) < 0)
		return error_new(errno, "sched_setscheduler(%d, %u)", tid, core->sched_policy);
	if (core->has_sched_nice && setpriority(PRIO_PROCESS, (id_t)tid, core->sched_nice) < 0)
		return error_new(errno, "setpriority(%d, %d)", tid, core->sched_nice);
	return NULL;
}

const struct state_ops scheduling_ops = {
	.name = "scheduling",
	.scope = STATE_THREAD,
	.check = scheduling_check,
	.save = scheduling_save,
	.restore = scheduling_restore,
};
