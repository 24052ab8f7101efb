/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Credentials of threads: each has ids, groups and a file system id of its own, the main thread's changed last. Bare
 * calls, since those of libc change all threads.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

#include "crew.h"

enum { IDS = 4, GROUPS = 5 };

static uint32_t id_of(int number, int which)
{
	return (uint32_t)(20000 + 1000 * number + which);
}

static void set_up(const struct subject *subject, int number)
{
	gid_t groups[GROUPS];

	for (int i = 0; i < GROUPS; i++)
		groups[i] = 70000U + (gid_t)(number * 100 + i * 7);
	/* One thread has no groups, another one is still root. */
	long failed = syscall(SYS_setgroups, number == 2 ? 0 : GROUPS, groups);
	failed |= syscall(SYS_setresgid, id_of(number, 10), id_of(number, 11), id_of(number, 12));
	if (number != 3)
		failed |= syscall(SYS_setresuid, id_of(number, 0), id_of(number, 1), id_of(number, 2));
	if (failed)
		subject_fail(subject, "thread %d: errno %d", number, errno);
	/* Without privileges it may be one of the three others; root may take any. */
	setfsuid(number == 3 ? id_of(number, 3) : id_of(number, 2));
	setfsgid(number == 3 ? id_of(number, 13) : id_of(number, 12));
}

static void check_ids(const struct subject *subject, int number)
{
	uint32_t users[IDS];
	uint32_t groups[IDS];

	syscall(SYS_getresuid, &users[0], &users[1], &users[2]);
	syscall(SYS_getresgid, &groups[0], &groups[1], &groups[2]);
	/* They return what there was. */
	users[3] = (uint32_t)setfsuid(UINT32_MAX);
	groups[3] = (uint32_t)setfsgid(UINT32_MAX);
	for (int i = 0; i < IDS; i++) {
		bool is_fs = i == 3;
		uint32_t user = number == 3 ? (is_fs ? id_of(3, 3) : 0) : id_of(number, is_fs ? 2 : i);
		uint32_t group = number == 3 && is_fs ? id_of(3, 13) : id_of(number, is_fs ? 12 : 10 + i);

		if (users[i] != user || groups[i] != group)
			subject_fail(subject, "thread %d: id %d is %u and %u, was %u and %u", number, i, users[i],
			             groups[i], user, group);
	}
}

static void check(const struct subject *subject, int number)
{
	gid_t groups[GROUPS * 2];
	int count = getgroups(GROUPS * 2, groups);

	check_ids(subject, number);
	if (count != (number == 2 ? 0 : GROUPS))
		subject_fail(subject, "thread %d: %d groups", number, count);
	for (int i = 0; i < count; i++)
		if (groups[i] != 70000U + (gid_t)(number * 100 + i * 7))
			subject_fail(subject, "thread %d: group %u", number, groups[i]);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
