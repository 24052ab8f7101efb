/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Filters that all threads share: after the move the program can still give all of them one more at once
 * (SECCOMP_FILTER_FLAG_TSYNC), which the kernel refuses to threads whose filters are only alike. no_new_privs isn't set:
 * the filters were installed with CAP_SYS_ADMIN, which the program has given up since.
 */
#include <linux/capability.h>
#include <stdint.h>

#include "crew.h"
#include "filter.h"

enum { FIRST_ERROR = 111, SECOND_ERROR = 112, LAST_ERROR = 113 };

static void install(const struct subject *subject, long number, int error, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0)
		subject_fail(subject, "filter of call %ld: errno %d, or a thread doesn't follow", number, errno);
}

static void set_up(const struct subject *subject, int number)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (number == 0) {
		install(subject, SYS_getppid, FIRST_ERROR, SECCOMP_FILTER_FLAG_TSYNC);
		install(subject, SYS_getuid, SECOND_ERROR, SECCOMP_FILTER_FLAG_TSYNC);
	}
	syscall(SYS_capget, &header, data);
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	data[0].permitted &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &header, data) != 0)
		subject_fail(subject, "capset: errno %d", errno);
}

static void expect(const struct subject *subject, int number, long call, int error)
{
	errno = 0;
	if (syscall(call) >= 0 || errno != error)
		subject_fail(subject, "thread %d: call %ld gives errno %d", number, call, errno);
}

static void check(const struct subject *subject, int number)
{
	expect(subject, number, SYS_getppid, FIRST_ERROR);
	expect(subject, number, SYS_getuid, SECOND_ERROR);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0)
		subject_fail(subject, "thread %d: no_new_privs is set", number);
	if (number == 0) {
		/* It has what it takes no more. */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		install(subject, SYS_getpgrp, LAST_ERROR, SECCOMP_FILTER_FLAG_TSYNC);
		expect(subject, number, SYS_getpgrp, LAST_ERROR);
	}
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
