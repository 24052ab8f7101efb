/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Small things that threads tune: timer slack, I/O priority, the time stamp counter (a read of it is a SIGSEGV in one
 * thread), what happens at a machine check.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "crew.h"

enum { IO_OF_PROCESS = 1, NO_TSC = 2 };

static const struct {
	unsigned long slack_ns;
	int io_priority; /* class << 13 | level: ioprio_set(2) */
	int machine_check;
} wanted[CREW] = {
	{123456, 2 << 13 | 6, PR_MCE_KILL_EARLY},
	{1, 3 << 13, PR_MCE_KILL_LATE},
	{5000000000, 1 << 13 | 3, PR_MCE_KILL_DEFAULT},
	{50000, 0, PR_MCE_KILL_EARLY},
};

static sigjmp_buf out;

static void jump_out(int signal)
{
	(void)signal;
	siglongjmp(out, 1);
}

static int may_read_tsc(void)
{
	if (sigsetjmp(out, 1))
		return 0;
	__builtin_ia32_rdtsc();
	return 1;
}

static void set_up(const struct subject *subject, int number)
{
	if (prctl(PR_SET_TIMERSLACK, wanted[number].slack_ns) != 0 ||
	    syscall(SYS_ioprio_set, IO_OF_PROCESS, 0, wanted[number].io_priority) != 0 ||
	    prctl(PR_MCE_KILL, PR_MCE_KILL_SET, wanted[number].machine_check, 0, 0) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
	if (number == NO_TSC)
		prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
}

static void check(const struct subject *subject, int number)
{
	unsigned long slack_ns = (unsigned long)syscall(SYS_prctl, PR_GET_TIMERSLACK);
	long io_priority = syscall(SYS_ioprio_get, IO_OF_PROCESS, 0);
	int machine_check = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);

	if (slack_ns != wanted[number].slack_ns)
		subject_fail(subject, "thread %d: timer slack %lu ns", number, slack_ns);
	if (io_priority != wanted[number].io_priority)
		subject_fail(subject, "thread %d: I/O priority %#lx", number, io_priority);
	if (machine_check != wanted[number].machine_check)
		subject_fail(subject, "thread %d: machine check %d", number, machine_check);
	if (may_read_tsc() != (number != NO_TSC))
		subject_fail(subject, "thread %d: it may read the time stamp counter, or may not any more", number);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	signal(SIGSEGV, jump_out);
	return crew_main(argc, argv, &job);
}
