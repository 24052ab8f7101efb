/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Resource limits: soft and hard ones, of all kinds, lowered to values of their own; unlimited ones stay so.
 */
#include <stdint.h>
#include <sys/resource.h>

#include "subject.h"

enum { KINDS = 16 };

static struct rlimit wanted(const struct subject *subject, int kind)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)kind, &limit) != 0)
		subject_fail(subject, "limit %d can't be read", kind);
	/* What would keep the program, or godwit in it, from going on isn't touched. */
	if (kind == RLIMIT_AS || kind == RLIMIT_DATA || kind == RLIMIT_CPU)
		return limit;
	if (limit.rlim_max == RLIM_INFINITY)
		limit.rlim_max = UINT64_C(0x123456789) + (rlim_t)kind;
	else if (limit.rlim_max > 64)
		limit.rlim_max -= 3;
	limit.rlim_cur = limit.rlim_max - limit.rlim_max / 5;
	return limit;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct rlimit limits[KINDS];

	for (int kind = 0; kind < KINDS; kind++) {
		limits[kind] = wanted(&subject, kind);
		if (setrlimit((__rlimit_resource_t)kind, &limits[kind]) != 0)
			subject_fail(&subject, "limit %d can't be set", kind);
	}

	subject_ready(&subject);

	for (int kind = 0; kind < KINDS; kind++) {
		struct rlimit now;

		if (getrlimit((__rlimit_resource_t)kind, &now) != 0 || now.rlim_cur != limits[kind].rlim_cur ||
		    now.rlim_max != limits[kind].rlim_max)
			subject_fail(&subject, "limit %d: %#jx of %#jx, was %#jx of %#jx", kind,
			             (uintmax_t)now.rlim_cur, (uintmax_t)now.rlim_max, (uintmax_t)limits[kind].rlim_cur,
			             (uintmax_t)limits[kind].rlim_max);
	}
	return subject_pass(&subject);
}
