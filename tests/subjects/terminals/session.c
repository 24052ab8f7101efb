/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A pseudoterminal that is the controlling terminal of a session, with both ends here: session and foreground group,
 * /dev/tty, and the signal of a key.
 */
#include <signal.h>

#include "pty.h"

enum { INTERRUPT_KEY = 3 };

static void take_terminal(const struct subject *subject, int slave)
{
	if (getsid(0) != getpid() && setsid() < 0)
		subject_fail(subject, "setsid: %s", strerror(errno));
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		subject_fail(subject, "TIOCSCTTY: %s", strerror(errno));
}

static void check_signal(const struct subject *subject, const struct pty *pty, const sigset_t *set)
{
	const struct timespec longest = {.tv_sec = PTY_WAIT_MS / 1000};
	const char key = INTERRUPT_KEY;

	pty_write(subject, pty->master, &key, 1);
	if (sigtimedwait(set, NULL, &longest) != SIGINT)
		subject_fail(subject, "no SIGINT: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct pty pty;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pty_new(&subject, &pty);
	pty.slave = pty_open(&subject, &pty);
	take_terminal(&subject, pty.slave);
	int current = open("/dev/tty", O_RDWR | O_NONBLOCK);
	if (current < 0)
		subject_fail(&subject, "/dev/tty: %s", strerror(errno));

	subject_ready(&subject);

	if (tcgetsid(pty.slave) != getsid(0) || tcgetpgrp(pty.slave) != getpgrp())
		subject_fail(&subject, "terminal of session %d, group %d", tcgetsid(pty.slave), tcgetpgrp(pty.slave));
	if (fcntl(pty.slave, F_GETFL) & O_CLOEXEC || fcntl(pty.slave, F_GETFD) != 0 ||
	    !(fcntl(current, F_GETFL) & O_NONBLOCK))
		subject_fail(&subject, "flags %#o, %#o", fcntl(pty.slave, F_GETFL), fcntl(current, F_GETFL));
	pty_write(&subject, current, "out", 3);
	pty_check_read(&subject, "from /dev/tty", pty.master, "out", 3);
	check_signal(&subject, &pty, &set);
	close(pty.slave);
	if (pty_has(pty.master, POLLHUP, 0))
		subject_fail(&subject, "/dev/tty doesn't keep the terminal open");
	return subject_pass(&subject);
}
