/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How threads are scheduled: nice value, policy and priority (sched(7)), SCHED_RESET_ON_FORK, SCHED_DEADLINE.
 */
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "crew.h"

/* Of sched_setattr(2). */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

enum { DEADLINE = 6, RESET_ON_FORK = 1 };

static const struct attributes wanted[CREW] = {
	{.policy = SCHED_BATCH, .nice = 7},
	{.policy = SCHED_RR, .priority = 3, .flags = RESET_ON_FORK},
	{.policy = SCHED_IDLE, .nice = 13},
	{.policy = DEADLINE,
         .flags = RESET_ON_FORK,
         .runtime_ns = 1234567,
         .deadline_ns = 34567890,
         .period_ns = 45678901},
};

static void set_up(const struct subject *subject, int number)
{
	struct attributes attributes = wanted[number];

	attributes.size = sizeof(attributes);
	/* Real-time threads would keep the nice value of whoever started the test. */
	if (syscall(SYS_sched_setattr, 0, &attributes, 0) != 0 || setpriority(PRIO_PROCESS, 0, attributes.nice) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
}

static void check_deadline(const struct subject *subject, const struct attributes *now, const struct attributes *want)
{
	if (now->runtime_ns != want->runtime_ns || now->deadline_ns != want->deadline_ns ||
	    now->period_ns != want->period_ns)
		subject_fail(subject, "deadline: %ju of %ju in %ju ns", (uintmax_t)now->runtime_ns,
		             (uintmax_t)now->deadline_ns, (uintmax_t)now->period_ns);
}

static void check(const struct subject *subject, int number)
{
	const struct attributes *want = &wanted[number];
	struct attributes now = {0};

	/* For real-time policies only getpriority(2) tells the nice value; it was 0 in those threads. */
	if (syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) != 0 || now.policy != want->policy ||
	    now.flags != want->flags || now.priority != want->priority || getpriority(PRIO_PROCESS, 0) != want->nice)

		subject_fail(subject, "thread %d: policy %u, flags %#jx, nice %d, priority %u", number, now.policy,
		             (uintmax_t)now.flags, now.nice, now.priority);
	if (now.policy == DEADLINE)
		check_deadline(subject, &now, want);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
