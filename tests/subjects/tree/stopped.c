/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A child that is stopped, as a shell's job is, and whose parent has been told of it: it is still stopped, nothing tells that
 * once more (neither wait(2) nor SIGCHLD), and what continues it does.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "subject.h"

int main(int argc, char **argv)
{
	const struct subject subject = subject_begin(argc, argv);
	const struct timespec none = {0};
	sigset_t told;
	int status = 0;

	sigemptyset(&told);
	sigaddset(&told, SIGCHLD);
	sigprocmask(SIG_BLOCK, &told, NULL);
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	if (child < 0 || kill(child, SIGSTOP) < 0 || waitpid(child, &status, WUNTRACED) != child ||
	    !WIFSTOPPED(status) || sigtimedwait(&told, NULL, &none) != SIGCHLD)
		subject_fail(&subject, "a child can't be stopped: errno %d", errno);
	subject_ready(&subject);
	if (waitpid(child, &status, WUNTRACED | WNOHANG) != 0)
		subject_fail(&subject, "the stop is told once more: status %#x", (unsigned)status);
	if (sigtimedwait(&told, NULL, &none) == SIGCHLD)
		subject_fail(&subject, "SIGCHLD tells of the stop once more");
	if (kill(child, SIGCONT) < 0 || waitpid(child, &status, WCONTINUED) != child || !WIFCONTINUED(status))
		subject_fail(&subject, "it wasn't stopped: status %#x, errno %d", (unsigned)status, errno);
	kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
		subject_fail(&subject, "its end: status %#x", (unsigned)status);
	return subject_pass(&subject);
}
