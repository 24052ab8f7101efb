/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <signal.h>
#include <unistd.h>

#include "cli/job.h"

/* SIGTTOU would stop whoever does this from the background: tcsetpgrp(3). */
static void give_terminal(pid_t group)
{
	sigset_t blocked;
	sigset_t before;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &blocked, &before);
	/* It fails where the terminal has gone meanwhile, and then there is nothing to give. */
	tcsetpgrp(STDIN_FILENO, group);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct job job_begin(pid_t pid)
{
	pid_t group = getpgid(pid);

	return (struct job){
		.pid = pid,
		.is_foreground = group > 0 && group != getpgrp() && tcgetpgrp(STDIN_FILENO) == group,
	};
}

void job_stop(struct job *job)
{
	pid_t group = getpgid(job->pid);

	if (group == getpgrp())
		return; /* it has got the same signal as we */
	if (job->is_foreground)
		give_terminal(getpgrp());
	kill(getpid(), SIGSTOP);
	/* Here the shell has said "fg" (then the terminal is ours) or "bg". */
	job->is_foreground = tcgetpgrp(STDIN_FILENO) == getpgrp();
	if (job->is_foreground)
		give_terminal(group);
	kill(-group, SIGCONT);
}

void job_end(const struct job *job)
{
	if (job->is_foreground)
		give_terminal(getpgrp());
}
