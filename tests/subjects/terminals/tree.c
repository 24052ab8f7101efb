/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A terminal and those who use it, as tmux and a shell with a job are: the master is here, a child leads the session, and
 * its child, in the group in the foreground, waits for a line of which a part has been typed.
 *
 * The trap: a process has the terminal of its session only if its leader had it when the process was made.
 */
#include <signal.h>
#include <sys/wait.h>

#include "pty.h"

enum { INTERRUPT_KEY = 3, JOB_STATUS = 7, LEADER_STATUS = 8 };

/* Its verdict is its exit status; where it differs, it is the number of what was wrong. */
static int wait_for_line(int current, const sigset_t *set)
{
	char line[16] = "";

	if (read(current, line, sizeof(line) - 1) != 5 || strcmp(line, "look\n") != 0)
		return 20;
	if (tcgetsid(current) != getppid() || tcgetpgrp(current) != getpid())
		return 21;
	int again = open("/dev/tty", O_RDWR);
	if (again < 0)
		return 22;
	if (write(again, "seen\n", 5) != 5)
		return 23;
	return sigwaitinfo(set, NULL) == SIGINT ? JOB_STATUS : 24;
}

static void be_job(const sigset_t *set)
{
	int current = open("/dev/tty", O_RDWR);

	if (current < 0 || setpgid(0, 0) < 0 || tcsetpgrp(current, getpid()) < 0 || write(current, "ready\n", 6) != 6)
		_exit(10);
	_exit(wait_for_line(current, set));
}

static void be_leader(const struct pty *pty, const sigset_t *set)
{
	int status;

	close(pty->master);
	signal(SIGTTOU, SIG_IGN);
	if (setsid() < 0 || open(pty->name, O_RDWR) < 0)
		_exit(11);
	pid_t job = fork();
	if (job == 0)
		be_job(set);
	if (waitpid(job, &status, 0) != job)
		_exit(12);
	_exit(WIFEXITED(status) && WEXITSTATUS(status) == JOB_STATUS ? LEADER_STATUS : WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const char key = INTERRUPT_KEY;
	struct pty pty;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pty_new(&subject, &pty);
	pty_set(&subject, pty.master, ICRNL, ICANON | ISIG);
	pid_t leader = fork();
	if (leader == 0)
		be_leader(&pty, &set);
	pty_check_read(&subject, "the job", pty.master, "ready\n", 6);
	pty_write(&subject, pty.master, "lo", 2);

	subject_ready(&subject);

	pty_write(&subject, pty.master, "ok\n", 3);
	pty_check_read(&subject, "what the job says", pty.master, "seen\n", 5);
	pty_write(&subject, pty.master, &key, 1);
	if (waitpid(leader, &status, 0) != leader || !WIFEXITED(status) || WEXITSTATUS(status) != LEADER_STATUS)
		subject_fail(&subject, "the leader ended with status %#x", status);
	return subject_pass(&subject);
}
