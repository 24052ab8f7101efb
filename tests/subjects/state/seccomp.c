/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * seccomp(2) of threads: a filter that all have, more filters on top of it in some, one that looks at arguments, a large
 * one. All threads are under seccomp.
 */
#include "crew.h"
#include "filter.h"

enum {
	LARGE = 2000,
	ERROR_OF_ALL = 101,
	ERROR_OF_ONE = 102,
	ERROR_OF_ARGUMENT = 103,
	ERROR_OF_LARGE = 104,
	ARGUMENT = 77
};

/* Many instructions that do nothing, and one check. */
static long filter_large(void)
{
	static struct sock_filter code[LARGE];
	const struct sock_fprog program = {.len = LARGE, .filter = code};

	for (int i = 0; i < LARGE; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	code[LARGE - 3] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1);
	code[LARGE - 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ERROR_OF_LARGE);
	code[LARGE - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void set_up(const struct subject *subject, int number)
{
	long failed = 0;

	if (number == 1)
		failed = filter_call(SYS_getuid, SECCOMP_RET_ERRNO | ERROR_OF_ONE, 1, 0, SECCOMP_FILTER_FLAG_LOG);
	if (number == 2)
		failed = filter_call(SYS_personality, SECCOMP_RET_ERRNO | ERROR_OF_ARGUMENT, 0, ARGUMENT, 0) |
		         filter_large();
	if (failed)
		subject_fail(subject, "thread %d: errno %d", number, errno);
}

static int error_of(long number, long argument)
{
	errno = 0;
	return syscall(number, argument) < 0 ? errno : 0;
}

static void check(const struct subject *subject, int number)
{
	const int errors[] = {error_of(SYS_getppid, 0), error_of(SYS_getuid, 0), error_of(SYS_personality, ARGUMENT),
	                      error_of(SYS_personality, UINT32_MAX), error_of(SYS_getpgrp, 0)};
	const int wanted[] = {ERROR_OF_ALL, number == 1 ? ERROR_OF_ONE : 0, number == 2 ? ERROR_OF_ARGUMENT : 0, 0,
	                      number == 2 ? ERROR_OF_LARGE : 0};

	if (memcmp(errors, wanted, sizeof(errors)) != 0)
		subject_fail(subject, "thread %d: errors %d, %d, %d, %d, %d", number, errors[0], errors[1], errors[2],
		             errors[3], errors[4]);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	if (argc == 2 && filter_call(SYS_getppid, SECCOMP_RET_ERRNO | ERROR_OF_ALL, 1, 0, 0) != 0)
		return 1;
	return crew_main(argc, argv, &job);
}
