/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A pseudoterminal whose both ends are here, for subjects. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "subject.h"

enum { PTY_WAIT_MS = 10000 };

struct pty {
	int master, slave; /* slave -1: never opened */
	char name[64];
};

static inline void pty_new(const struct subject *subject, struct pty *pty)
{
	*pty = (struct pty){.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), .slave = -1};
	if (pty->master < 0 || grantpt(pty->master) < 0 || unlockpt(pty->master) < 0 ||
	    ptsname_r(pty->master, pty->name, sizeof(pty->name)) != 0)
		subject_fail(subject, "new pseudoterminal: %s", strerror(errno));
}

static inline int pty_open(const struct subject *subject, const struct pty *pty)
{
	int fd = open(pty->name, O_RDWR | O_NOCTTY);

	if (fd < 0)
		subject_fail(subject, "open %s: %s", pty->name, strerror(errno));
	return fd;
}

static inline void pty_set(const struct subject *subject, int fd, tcflag_t iflag, tcflag_t lflag)
{
	struct termios termios;

	if (tcgetattr(fd, &termios) < 0)
		subject_fail(subject, "tcgetattr: %s", strerror(errno));
	termios.c_iflag = iflag;
	termios.c_oflag = 0;
	termios.c_lflag = lflag;
	if (!(lflag & ICANON)) {
		termios.c_cc[VMIN] = 1;
		termios.c_cc[VTIME] = 0;
	}
	if (tcsetattr(fd, TCSANOW, &termios) < 0)
		subject_fail(subject, "tcsetattr: %s", strerror(errno));
}

static inline void pty_write(const struct subject *subject, int fd, const void *bytes, size_t count)
{
	if (write(fd, bytes, count) != (ssize_t)count)
		subject_fail(subject, "write of %zu bytes: %s", count, strerror(errno));
}

static inline bool pty_has(int fd, short events, int wait_ms)
{
	struct pollfd polled = {.fd = fd, .events = events};

	return poll(&polled, 1, wait_ms) == 1 && (polled.revents & events);
}

static inline int pty_waiting(int fd)
{
	int bytes = -1;

	ioctl(fd, FIONREAD, &bytes);
	return bytes;
}

/* Until that much can be read: what is written to one end comes to the other a little later. */
static inline void pty_wait(const struct subject *subject, int fd, int count)
{
	for (int waited_ms = 0; pty_waiting(fd) < count; waited_ms++) {
		if (waited_ms == PTY_WAIT_MS)
			subject_fail(subject, "%d bytes wait, not %d", pty_waiting(fd), count);
		usleep(1000);
	}
}

/* One read(2): of a line, where lines are told from each other. */
static inline void pty_check_read(const struct subject *subject, const char *what, int fd, const char *expected,
                                  size_t count)
{
	char bytes[256] = "";

	if (!pty_has(fd, POLLIN, PTY_WAIT_MS))
		subject_fail(subject, "%s: nothing to read", what);
	ssize_t n = read(fd, bytes, sizeof(bytes) - 1);
	if (n != (ssize_t)count || memcmp(bytes, expected, count) != 0)
		subject_fail(subject, "%s: '%s' (%zd bytes), not '%s'", what, bytes, n, expected);
}

/* However many reads it takes. */
static inline void pty_check_stream(const struct subject *subject, const char *what, int fd,
                                    unsigned char (*byte_at)(size_t index), size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned char byte = 0;

		if (!pty_has(fd, POLLIN, PTY_WAIT_MS) || read(fd, &byte, 1) != 1)
			subject_fail(subject, "%s: %zu bytes, not %zu", what, i, count);
		if (byte != byte_at(i))
			subject_fail(subject, "%s: byte %zu is %u, not %u", what, i, byte, byte_at(i));
	}
	if (pty_has(fd, POLLIN, 0))
		subject_fail(subject, "%s: more than %zu bytes", what, count);
}
