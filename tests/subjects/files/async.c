/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Descriptors that speak up: who gets which signal for what (F_SETOWN, F_SETSIG, O_ASYNC), for a pipe and sockets, also a
 * single thread; and an epoll that watches one descriptor of each kind. The trap: O_ASYNC remembers the number of the
 * descriptor, which the signal tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "subject.h"

enum { PIPE, UNIX, COUNTER, TIMER, SIGNALS, INOTIFY, KINDS };

struct ends {
	int reader, writer;
};

static void check(const struct subject *subject, int ok, const char *what)
{
	if (!ok)
		subject_fail(subject, "%s: errno %d", what, errno);
}

static struct ends make_pipe(const struct subject *subject)
{
	int ends[2];

	check(subject, pipe2(ends, O_NONBLOCK) == 0, "pipe2");
	return (struct ends){ends[0], ends[1]};
}

static struct ends make_pair(const struct subject *subject)
{
	int ends[2];

	check(subject, socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
	return (struct ends){ends[0], ends[1]};
}

/* ---- Signals ---- */

static void arm(const struct subject *subject, int fd, int type, int signal)
{
	const struct f_owner_ex owner = {.type = (__typeof__(owner.type))type, .pid = gettid()};

	check(subject,
	      fcntl(fd, F_SETOWN_EX, &owner) == 0 && fcntl(fd, F_SETSIG, signal) == 0 &&
	              fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC) == 0,
	      "F_SETOWN_EX, F_SETSIG, O_ASYNC");
}

static void expect_signal(const struct subject *subject, const char *what, const struct ends *ends, int type,
                          int signal)
{
	struct f_owner_ex owner = {0};
	const struct timespec patience = {.tv_sec = 10};
	siginfo_t info = {0};
	sigset_t set;

	check(subject, fcntl(ends->reader, F_GETOWN_EX, &owner) == 0, "F_GETOWN_EX");
	if ((int)owner.type != type || owner.pid != gettid() || fcntl(ends->reader, F_GETSIG) != signal ||
	    !(fcntl(ends->reader, F_GETFL) & O_ASYNC))
		subject_fail(subject, "%s: owner %d %d, signal %d, flags %#o", what, (int)owner.type, owner.pid,
		             fcntl(ends->reader, F_GETSIG), fcntl(ends->reader, F_GETFL));
	sigemptyset(&set);
	sigaddset(&set, signal);
	check(subject, write(ends->writer, "x", 1) == 1, "write");
	if (sigtimedwait(&set, &info, &patience) != signal || info.si_fd != ends->reader)
		subject_fail(subject, "%s: signal %d for fd %d, errno %d", what, info.si_signo, info.si_fd, errno);
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGRTMIN + 4);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- All that an epoll can watch ---- */

struct watched {
	int epoll;
	int fds[KINDS];
	struct ends pipe, pair;
};

static struct watched watch_all(const struct subject *subject)
{
	struct watched watched = {.epoll = epoll_create1(0), .pipe = make_pipe(subject), .pair = make_pair(subject)};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	watched.fds[PIPE] = watched.pipe.reader;
	watched.fds[UNIX] = watched.pair.reader;
	watched.fds[COUNTER] = eventfd(0, 0);
	watched.fds[TIMER] = timerfd_create(CLOCK_MONOTONIC, 0);
	watched.fds[SIGNALS] = signalfd(-1, &set, 0);
	watched.fds[INOTIFY] = inotify_init1(0);
	check(subject, inotify_add_watch(watched.fds[INOTIFY], subject->dir, IN_ATTRIB) == 1, "inotify_add_watch");
	for (uint64_t i = 0; i < KINDS; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u64 = i + 100};

		check(subject, epoll_ctl(watched.epoll, EPOLL_CTL_ADD, watched.fds[i], &event) == 0, "epoll_ctl");
	}
	return watched;
}

static void stir(const struct subject *subject, const struct watched *watched, int kind)
{
	const struct itimerspec soon = {.it_value.tv_nsec = 1};

	switch (kind) {
	case PIPE:
		check(subject, write(watched->pipe.writer, "x", 1) == 1, "pipe");
		break;
	case UNIX:
		check(subject, write(watched->pair.writer, "x", 1) == 1, "pair");
		break;
	case COUNTER:
		check(subject, eventfd_write(watched->fds[COUNTER], 1) == 0, "eventfd");
		break;
	case TIMER:
		check(subject, timerfd_settime(watched->fds[TIMER], 0, &soon, NULL) == 0, "timerfd");
		break;
	case SIGNALS:
		check(subject, kill(getpid(), SIGUSR2) == 0, "kill");
		break;
	default:
		check(subject, chmod(subject->dir, 0755) == 0, "chmod");
		break;
	}
}

/* Each wakes the epoll, once it has been stirred, and no other one does. */
static void check_all(const struct subject *subject, const struct watched *watched)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct epoll_event events[KINDS];
		char bytes[256];

		stir(subject, watched, kind);
		int count = epoll_wait(watched->epoll, events, KINDS, 10000);
		if (count != 1 || events[0].data.u64 != (uint64_t)kind + 100)
			subject_fail(subject, "epoll: kind %d: %d events", kind, count);
		check(subject, read(watched->fds[kind], bytes, sizeof(bytes)) > 0, "read");
	}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct ends pipe = make_pipe(&subject);
	const struct ends pair = make_pair(&subject);
	const struct watched watched = watch_all(&subject);

	block_signals();
	arm(&subject, pipe.reader, F_OWNER_TID, SIGRTMIN + 3);
	arm(&subject, pair.reader, F_OWNER_PID, SIGRTMIN + 4);

	subject_ready(&subject);

	expect_signal(&subject, "pipe", &pipe, F_OWNER_TID, SIGRTMIN + 3);
	expect_signal(&subject, "socket", &pair, F_OWNER_PID, SIGRTMIN + 4);
	check_all(&subject, &watched);
	return subject_pass(&subject);
}
