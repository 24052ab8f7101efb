/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* sched_setaffinity(2) of threads: bound to one processor each, or to none of them. */
#include <sched.h>
#include <stdint.h>

#include "crew.h"

enum { UNBOUND = 2 };

static int processor_of(int number)
{
	return number % (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static void set_up(const struct subject *subject, int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor_of(number), &set);
	if (number != UNBOUND && sched_setaffinity(0, sizeof(set), &set) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
}

static void check(const struct subject *subject, int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	int expected = number == UNBOUND ? (int)sysconf(_SC_NPROCESSORS_ONLN) : 1;
	if (CPU_COUNT(&set) != expected || !CPU_ISSET(processor_of(number), &set))
		subject_fail(subject, "thread %d may run on %d processors, or not on %d", number, CPU_COUNT(&set),
		             processor_of(number));
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
