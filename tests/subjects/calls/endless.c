/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System calls that wait for something without a time-out: they still wait when the program has been carried, and what
 * ends them then is what they waited for: bytes, a connection, or a signal, whose handler runs first.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "subject.h"

struct waiter {
	const char *name;
	void (*wait)(struct waiter *waiter);
	int fd;         /* what it waits for */
	int other_fd;   /* what ends that */
	bool by_signal; /* SIGUSR2 ends it */
	long result;
	int result_errno;
	atomic_bool is_over;
	atomic_int tid;
	pthread_t thread;
};

static atomic_int handled;

static void handle(int signal)
{
	(void)signal;
	handled++;
}

static void wait_read(struct waiter *waiter)
{
	char byte;

	waiter->result = read(waiter->fd, &byte, 1);
}

static void wait_readv(struct waiter *waiter)
{
	char bytes[2];
	const struct iovec vectors[2] = {{&bytes[0], 1}, {&bytes[1], 1}};

	waiter->result = readv(waiter->fd, vectors, 2);
}

static void wait_eventfd(struct waiter *waiter)
{
	uint64_t value = 0;

	waiter->result = read(waiter->fd, &value, sizeof(value)) == sizeof(value) ? (long)value : -1;
}

static void wait_write(struct waiter *waiter)
{
	waiter->result = write(waiter->fd, "x", 1);
}

static void wait_poll(struct waiter *waiter)
{
	struct pollfd polled = {.fd = waiter->fd, .events = POLLIN};

	waiter->result = poll(&polled, 1, -1);
}

static void wait_epoll(struct waiter *waiter)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};

	epoll_ctl(epoll, EPOLL_CTL_ADD, waiter->fd, &event);
	waiter->result = epoll_wait(epoll, &event, 1, -1);
}

static void wait_accept(struct waiter *waiter)
{
	waiter->result = accept(waiter->fd, NULL, NULL) >= 0;
}

static void wait_receive(struct waiter *waiter)
{
	char byte;

	waiter->result = recv(waiter->fd, &byte, 1, 0);
}

static void wait_pause(struct waiter *waiter)
{
	waiter->result = pause();
}

static void wait_suspend(struct waiter *waiter)
{
	sigset_t none;

	sigemptyset(&none);
	waiter->result = sigsuspend(&none);
}

static void *run(void *context)
{
	struct waiter *waiter = context;

	waiter->tid = gettid();
	waiter->wait(waiter);
	waiter->result_errno = errno;
	waiter->is_over = true;
	return NULL;
}

static void make_pipe(struct waiter *waiter)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		abort();
	waiter->fd = ends[0];
	waiter->other_fd = ends[1];
}

/* Waits for room, which a byte that is read makes. */
static void make_full_pipe(struct waiter *waiter)
{
	static const char page[4096];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		abort();
	for (int left = fcntl(ends[1], F_SETPIPE_SZ, sizeof(page)); left > 0; left -= (int)sizeof(page))
		if (write(ends[1], page, sizeof(page)) != sizeof(page))
			abort();
	waiter->fd = ends[1];
	waiter->other_fd = ends[0];
}

static void make_eventfd(struct waiter *waiter)
{
	waiter->fd = waiter->other_fd = eventfd(0, EFD_CLOEXEC);
}

static void make_socket(struct waiter *waiter, int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	waiter->fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (bind(waiter->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		abort();
}

/* Its port gets a byte or a connection. */
static void reach(const struct waiter *waiter, int type)
{
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (getsockname(waiter->fd, (struct sockaddr *)&address, &size) != 0 ||
	    connect(fd, (struct sockaddr *)&address, size) != 0 || (type == SOCK_DGRAM && send(fd, "x", 1, 0) != 1))
		abort();
}

enum { READ, READV, EVENT, WRITE, POLL, EPOLL, ACCEPT, RECEIVE, PAUSE, SUSPEND, COUNT };

static void set_up(struct waiter waiters[COUNT])
{
	make_pipe(&waiters[READ]);
	make_pipe(&waiters[READV]);
	make_eventfd(&waiters[EVENT]);
	make_full_pipe(&waiters[WRITE]);
	make_pipe(&waiters[POLL]);
	make_pipe(&waiters[EPOLL]);
	make_socket(&waiters[ACCEPT], SOCK_STREAM);
	listen(waiters[ACCEPT].fd, 4);
	make_socket(&waiters[RECEIVE], SOCK_DGRAM);
	waiters[PAUSE].by_signal = waiters[SUSPEND].by_signal = true;
}

static void end_waits(struct waiter waiters[COUNT])
{
	const uint64_t five = 5;
	char page[4096];

	if (write(waiters[READ].other_fd, "x", 1) != 1 || write(waiters[READV].other_fd, "xy", 2) != 2 ||
	    write(waiters[EVENT].other_fd, &five, sizeof(five)) != sizeof(five) ||
	    read(waiters[WRITE].other_fd, page, sizeof(page)) != sizeof(page) ||
	    write(waiters[POLL].other_fd, "x", 1) != 1 || write(waiters[EPOLL].other_fd, "x", 1) != 1)
		abort();
	reach(&waiters[ACCEPT], SOCK_STREAM);
	reach(&waiters[RECEIVE], SOCK_DGRAM);
	for (size_t i = 0; i < COUNT; i++)
		if (waiters[i].by_signal)
			pthread_kill(waiters[i].thread, SIGUSR2);
}

/* All sleep but this one: field 3 of proc_pid_stat(5). */
static bool is_asleep(pid_t tid)
{
	char path[64];
	char text[512] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	FILE *file = fopen(path, "re");
	if (!file || !fgets(text, sizeof(text), file) || fclose(file) != 0)
		abort();
	const char *end = strrchr(text, ')');
	return end && end[2] == 'S';
}

static void wait_until_asleep(const struct waiter waiters[COUNT])
{
	for (size_t i = 0; i < COUNT; i++)
		while (waiters[i].tid == 0 || !is_asleep(waiters[i].tid))
			usleep(1000);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	struct waiter waiters[COUNT] = {
		[READ] = {.name = "read", .wait = wait_read},
		[READV] = {.name = "readv", .wait = wait_readv},
		[EVENT] = {.name = "eventfd", .wait = wait_eventfd},
		[WRITE] = {.name = "write", .wait = wait_write},
		[POLL] = {.name = "poll", .wait = wait_poll},
		[EPOLL] = {.name = "epoll_wait", .wait = wait_epoll},
		[ACCEPT] = {.name = "accept", .wait = wait_accept},
		[RECEIVE] = {.name = "recv", .wait = wait_receive},
		[PAUSE] = {.name = "pause", .wait = wait_pause},
		[SUSPEND] = {.name = "sigsuspend", .wait = wait_suspend},
	};
	static const long expected[COUNT] = {
		[READ] = 1,  [READV] = 2,  [EVENT] = 5,   [WRITE] = 1,  [POLL] = 1,
		[EPOLL] = 1, [ACCEPT] = 1, [RECEIVE] = 1, [PAUSE] = -1, [SUSPEND] = -1,
	};

	sigaction(SIGUSR2, &action, NULL);
	set_up(waiters);
	for (size_t i = 0; i < COUNT; i++)
		if (pthread_create(&waiters[i].thread, NULL, run, &waiters[i]) != 0)
			subject_fail(&subject, "%s: pthread_create", waiters[i].name);
	wait_until_asleep(waiters);

	subject_ready(&subject);

	for (size_t i = 0; i < COUNT; i++)
		if (waiters[i].is_over)
			subject_fail(&subject, "%s: %ld, errno %d before its time", waiters[i].name, waiters[i].result,
			             waiters[i].result_errno);
	end_waits(waiters);
	for (size_t i = 0; i < COUNT; i++) {
		pthread_join(waiters[i].thread, NULL);
		if (waiters[i].result != expected[i] || (expected[i] < 0 && waiters[i].result_errno != EINTR))
			subject_fail(&subject, "%s: %ld, errno %d", waiters[i].name, waiters[i].result,
			             waiters[i].result_errno);
	}
	if (handled != 2)
		subject_fail(&subject, "%d signals were handled, not 2", handled);
	return subject_pass(&subject);
}
