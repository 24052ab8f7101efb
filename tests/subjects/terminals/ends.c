/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Ends of pseudoterminals: a slave that nobody has opened yet, to which something was typed; one that has been closed,
 * with its last words; output that was stopped, by tcflow(3) and by a key, on either side; settings that are locked; owner
 * and mode of the slave's node.
 *
 * The traps: whoever opens and closes a slave to look into it makes its master see a hangup; a stop by a key ends by a
 * key only.
 */
#include <sys/stat.h>

#include "pty.h"

enum { OWNER = 4711, GROUP = 815, MODE = 0614, STOP_KEY = 0x13, START_KEY = 0x11 };

struct ptys {
	struct pty unopened, closed, stopped, by_key, master_stopped, odd;
};

static bool can_write(int fd)
{
	return pty_has(fd, POLLOUT, 0);
}

static void make(const struct subject *subject, struct ptys *ptys)
{
	struct pty *opened[] = {&ptys->closed, &ptys->stopped, &ptys->by_key, &ptys->master_stopped, &ptys->odd};
	const char stop = STOP_KEY;

	pty_new(subject, &ptys->unopened);
	pty_write(subject, ptys->unopened.master, "early\nbird", 10);
	pty_check_read(subject, "echo", ptys->unopened.master, "early\r\nbird", 11);
	for (size_t i = 0; i < sizeof(opened) / sizeof(opened[0]); i++) {
		pty_new(subject, opened[i]);
		opened[i]->slave = pty_open(subject, opened[i]);
	}
	pty_set(subject, ptys->closed.slave, 0, ICANON);
	pty_write(subject, ptys->closed.slave, "last words", 10);
	pty_write(subject, ptys->closed.master, "for the next one\n", 17);
	close(ptys->closed.slave);

	pty_set(subject, ptys->stopped.slave, 0, 0);
	pty_write(subject, ptys->stopped.slave, "before", 6);
	pty_set(subject, ptys->by_key.slave, IXON, 0);
	pty_write(subject, ptys->by_key.slave, "before", 6);
	pty_write(subject, ptys->by_key.master, &stop, 1);
	pty_set(subject, ptys->master_stopped.slave, 0, 0);
	if (tcflow(ptys->stopped.slave, TCOOFF) < 0 || tcflow(ptys->master_stopped.master, TCOOFF) < 0)
		subject_fail(subject, "tcflow: %s", strerror(errno));
	for (int waited_ms = 0; can_write(ptys->by_key.slave) && waited_ms < PTY_WAIT_MS; waited_ms++)
		usleep(1000);
	if (can_write(ptys->stopped.slave) || can_write(ptys->by_key.slave) || can_write(ptys->master_stopped.master))
		subject_fail(subject, "output isn't stopped");
	if (fchown(ptys->odd.slave, OWNER, GROUP) < 0 || fchmod(ptys->odd.slave, MODE) < 0)
		subject_fail(subject, "chown: %s", strerror(errno));
}

/* What is locked stays as it is, whatever one sets. */
static void lock_settings(const struct subject *subject, int fd)
{
	struct termios locked = {.c_lflag = ECHO | ECHOK};

	pty_set(subject, fd, 0, ICANON | ECHOK);
	if (ioctl(fd, TIOCSLCKTRMIOS, &locked) < 0)
		subject_fail(subject, "TIOCSLCKTRMIOS: %s", strerror(errno));
	pty_write(subject, fd, "x", 1);
}

static void check_locked(const struct subject *subject, const struct pty *pty)
{
	struct termios termios;

	pty_check_read(subject, "output of the locked one", pty->master, "x", 1);
	pty_set(subject, pty->slave, 0, ECHO | ECHOE);
	if (tcgetattr(pty->slave, &termios) < 0 || termios.c_lflag != (ECHOK | ECHOE))
		subject_fail(subject, "locked settings: %#o", termios.c_lflag);
}

static void check_unopened(const struct subject *subject, const struct pty *pty)
{
	if (pty_has(pty->master, POLLIN | POLLHUP, 0))
		subject_fail(subject, "never opened: the master sees %s",
		             pty_has(pty->master, POLLHUP, 0) ? "a hangup" : "something to read");
	int slave = pty_open(subject, pty);
	pty_check_read(subject, "never opened", slave, "early\n", 6);
	pty_write(subject, pty->master, "s\n", 2);
	pty_check_read(subject, "never opened, second line", slave, "birds\n", 6);
}

static void check_closed(const struct subject *subject, const struct pty *pty)
{
	char byte;

	if (!pty_has(pty->master, POLLHUP, 0))
		subject_fail(subject, "closed: no hangup");
	pty_check_read(subject, "closed", pty->master, "last words", 10);
	if (read(pty->master, &byte, 1) != -1 || errno != EIO)
		subject_fail(subject, "closed: no EIO");
	int slave = pty_open(subject, pty);
	pty_check_read(subject, "closed, by the next one", slave, "for the next one\n", 17);
	if (pty_has(pty->master, POLLHUP, 0))
		subject_fail(subject, "opened again: a hangup");
}

static void check_flows(const struct subject *subject, const char *what, const struct pty *pty)
{
	if (!can_write(pty->slave))
		subject_fail(subject, "%s: still stopped", what);
	pty_write(subject, pty->slave, "after", 5);
	pty_wait(subject, pty->master, 11);
	pty_check_read(subject, what, pty->master, "beforeafter", 11);
}

static void check_stopped(const struct subject *subject, const struct ptys *ptys)
{
	const char start = START_KEY;

	if (can_write(ptys->stopped.slave) || can_write(ptys->by_key.slave) || can_write(ptys->master_stopped.master))
		subject_fail(subject, "output isn't stopped any more");
	tcflow(ptys->by_key.slave, TCOON);
	if (can_write(ptys->by_key.slave))
		subject_fail(subject, "tcflow(3) has started what a key had stopped");
	pty_write(subject, ptys->by_key.master, &start, 1);
	for (int waited_ms = 0; !can_write(ptys->by_key.slave) && waited_ms < PTY_WAIT_MS; waited_ms++)
		usleep(1000);
	check_flows(subject, "stopped by a key", &ptys->by_key);
	tcflow(ptys->stopped.slave, TCOON);
	check_flows(subject, "stopped", &ptys->stopped);
	tcflow(ptys->master_stopped.master, TCOON);
	pty_write(subject, ptys->master_stopped.master, "typed", 5);
	pty_check_read(subject, "the master's", ptys->master_stopped.slave, "typed", 5);
}

static void check_node(const struct subject *subject, const struct pty *pty)
{
	struct stat node;

	if (stat(pty->name, &node) < 0 || node.st_uid != OWNER || node.st_gid != GROUP ||
	    (node.st_mode & 07777) != MODE)
		subject_fail(subject, "%s is of %u:%u, mode %#o", pty->name, node.st_uid, node.st_gid, node.st_mode);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct ptys ptys;

	make(&subject, &ptys);
	lock_settings(&subject, ptys.odd.slave);

	subject_ready(&subject);

	check_unopened(&subject, &ptys.unopened);
	check_closed(&subject, &ptys.closed);
	check_stopped(&subject, &ptys);
	check_locked(&subject, &ptys.odd);
	check_node(&subject, &ptys.odd);
	return subject_pass(&subject);
}
