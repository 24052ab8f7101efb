/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How a thread is scheduled: nice value, policy, priority, reset on fork, the times of SCHED_DEADLINE (sched(7)).
 *
 * Traps: sched_getattr(2) tells the nice value of some policies only, getpriority(2) that of all. The slice that a thread
 * may ask for since Linux 6.12 looks like the one that all threads have: it isn't carried.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "objects/state.h"
#include "util/alloc.h"

enum { POLICY_DEADLINE = 6, RESET_ON_FORK = 1, UTILIZATION_MAX = 1024, NICE_OFFSET = 20 };

/* struct sched_attr of sched_setattr(2), with what Linux 5.3 added. */
struct attributes {
	uint32_t size_bytes, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
	uint32_t utilization_min, utilization_max;
};

struct answers {
	struct arg attributes, nice;
};

static void *scheduling_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->attributes = batch_space(batch, sizeof(struct attributes));
	batch_call(batch, sched_getattr, val(0), answers->attributes, val(sizeof(struct attributes)), val(0));
	answers->nice = batch_call(batch, getpriority, val(PRIO_PROCESS), val(0));
	return answers;
}

/* Of the other policies the kernel tells what it has set by itself. */
static bool is_clamped(const struct attributes *attributes)
{
	bool is_fair = attributes->policy == SCHED_OTHER || attributes->policy == SCHED_BATCH;

	return is_fair && (attributes->utilization_min ||
	                   (attributes->utilization_max && attributes->utilization_max != UTILIZATION_MAX));
}

static struct error *scheduling_save(const struct state_save *state, const void *collected, const void *asked,
                                     const struct batch *batch)
{
	const struct answers *answers = asked;
	ThreadCoreEntry *core = state->core->thread_core;
	GodwitThreadEntry *extra = state->extra;
	struct attributes attributes;

	(void)collected;
	memcpy(&attributes, batch_output(batch, answers->attributes), sizeof(attributes));
	if (is_clamped(&attributes))
		return error_hint(error_new(ENOTSUP, "utilization clamps %u to %u", attributes.utilization_min,
		                            attributes.utilization_max),
		                  "uclampset --reset takes them away");
	core->has_sched_policy = true;
	core->sched_policy = attributes.policy | (attributes.flags & RESET_ON_FORK ? SCHED_RESET_ON_FORK : 0);
	core->has_sched_prio = true;
	core->sched_prio = attributes.priority;
	core->has_sched_nice = true;
	/* The call itself returns 1 to 40: getpriority(2), "C library/kernel differences". */
	core->sched_nice = NICE_OFFSET - (int32_t)batch_result(batch, answers->nice);
	if (attributes.policy != POLICY_DEADLINE)
		return NULL;
	extra->has_sched_runtime_ns = extra->has_sched_deadline_ns = true;
	extra->has_sched_period_ns = extra->has_sched_flags = true;
	extra->sched_runtime_ns = attributes.runtime_ns;
	extra->sched_deadline_ns = attributes.deadline_ns;
	extra->sched_period_ns = attributes.period_ns;
	extra->sched_flags = attributes.flags;
	return NULL;
}

static struct error *scheduling_restore(const struct state_restore *state, struct batch *batch)
{
	const ThreadCoreEntry *core = state->core->thread_core;
	const GodwitThreadEntry *extra = state->extra;
	const struct attributes attributes = {
		.size_bytes = sizeof(attributes),
		.policy = core->sched_policy & ~(uint32_t)SCHED_RESET_ON_FORK,
		.flags = extra->has_sched_flags                     ? extra->sched_flags
	                 : core->sched_policy & SCHED_RESET_ON_FORK ? RESET_ON_FORK
	                                                            : 0,
		.nice = core->sched_nice,
		.priority = core->sched_prio,
		.runtime_ns = extra->sched_runtime_ns,
		.deadline_ns = extra->sched_deadline_ns,
		.period_ns = extra->sched_period_ns,
	};
	pid_t tid = state->tid;

	(void)batch;
	if (core->has_sched_policy && syscall(SYS_sched_setattr, tid, &attributes, 0) < 0)
		return error_new(errno, "sched_setattr(%d): policy %u, priority %u", tid, attributes.policy,
		                 attributes.priority);
	if (core->has_sched_nice && setpriority(PRIO_PROCESS, (id_t)tid, core->sched_nice) < 0)
		return error_new(errno, "setpriority(%d, %d)", tid, core->sched_nice);
	return NULL;
}

const struct state_ops scheduling_ops = {
	.name = "scheduling",
	.scope = STATE_THREAD,
	.ask = scheduling_ask,
	.save = scheduling_save,
	.restore = scheduling_restore,
};
