/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * PR_SET_PDEATHSIG of each thread, also of those that change their credentials, which resets it; PR_SET_CHILD_SUBREAPER.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "crew.h"

static const int signals[CREW] = {SIGURG, 45, 0, SIGCONT};

static void set_up(const struct subject *subject, int number)
{
	if ((number == 0 || number == 3) && syscall(SYS_setresuid, 4711, 4712, 4713) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
	if (prctl(PR_SET_PDEATHSIG, signals[number]) != 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
}

static void check(const struct subject *subject, int number)
{
	int signal = -1;
	int is_subreaper = -1;

	prctl(PR_GET_PDEATHSIG, &signal);
	prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper);
	if (signal != signals[number] || is_subreaper != 1)
		subject_fail(subject, "thread %d: signal %d, subreaper %d", number, signal, is_subreaper);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
