/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System calls with a time-out, of which the kernel doesn't always tell how much is left: they begin anew, but never end
 * too early, nor with an EINTR that no signal caused. Sleeps are among them when the program is saved again.
 */
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "waits.h"

static uint32_t word; /* nobody changes or wakes it */

static long sleep_some(const struct timespec *full)
{
	return nanosleep(full, NULL);
}

static long poll_nothing(const struct timespec *full)
{
	return poll(NULL, 0, (int)full->tv_sec * 1000);
}

static long futex_wait(const struct timespec *full)
{
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, full, NULL, 0);
}

static long signal_wait(const struct timespec *full)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, full);
}

/* A port on which nobody connects, or sends. */
static int receiver(int type, const struct timespec *full)
{
	const struct timeval timeout = {.tv_sec = full->tv_sec};
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0)
		return -1;
	return fd;
}

static long receive(const struct timespec *full)
{
	char byte;

	return recv(receiver(SOCK_DGRAM, full), &byte, 1, 0);
}

static long read_socket(const struct timespec *full)
{
	char byte;

	return read(receiver(SOCK_DGRAM, full), &byte, 1);
}

static long accept_nobody(const struct timespec *full)
{
	int fd = receiver(SOCK_STREAM, full);

	listen(fd, 1);
	return accept(fd, NULL, NULL);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct wait waits[] = {
		{.name = "nanosleep", .wait = sleep_some},
		{.name = "poll", .wait = poll_nothing},
		{.name = "FUTEX_WAIT", .wait = futex_wait, .expected = -1, .expected_errno = ETIMEDOUT},
		{.name = "sigtimedwait", .wait = signal_wait, .expected = -1, .expected_errno = EAGAIN},
		{.name = "recv", .wait = receive, .expected = -1, .expected_errno = EAGAIN},
		{.name = "read", .wait = read_socket, .expected = -1, .expected_errno = EAGAIN},
		{.name = "accept", .wait = accept_nobody, .expected = -1, .expected_errno = EAGAIN},
	};
	enum { COUNT = sizeof(waits) / sizeof(waits[0]), FOR_EVER_MS = 100 * 1000 };

	waits_start(&subject, waits, COUNT);
	subject_ready(&subject);
	waits_check(&subject, waits, COUNT, FOR_EVER_MS);
	return subject_pass(&subject);
}
