/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * limits: what this machine can do at best, for ratios.
 *
 *     limits copy MB                 fills MB of fresh memory of another process by UFFDIO_COPY in pieces of 1 MiB
 *     limits receive ADDRESS PORT    takes one TCP connection, and all bytes of it
 *     limits send ADDRESS PORT MB    … and sends them to it, 64 KiB at a time
 *
 * Each prints MB per second; send, until the other side has said that it has all.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const size_t piece_bytes = 1 << 20;
static const size_t buffer_bytes = 64 << 10;

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *fill_anew(size_t size_bytes)
{
	void *bytes = malloc(size_bytes);

	if (!bytes)
		err(1, "malloc");
	memset(bytes, 0x5a, size_bytes);
	return bytes;
}

/* ---- copy ---- */

struct place {
	int uffd;
	char *area;
};

/* In a process of its own, as godwit fills another one: the userfaultfd comes over by fork's copy of the descriptor. */
static void be_filled(size_t size_bytes, int report)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct place place = {.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC)};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	place.area = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register request = {
		.range = {.start = (uintptr_t)place.area, .len = size_bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	if (place.uffd < 0 || place.area == MAP_FAILED || ioctl(place.uffd, UFFDIO_API, &api) < 0 ||
	    ioctl(place.uffd, UFFDIO_REGISTER, &request) < 0 || write(report, &place, sizeof(place)) != sizeof(place))
		err(1, "userfaultfd");
	for (;;)
		pause();
}

static double copy_rate(int uffd, const char *area, size_t size_bytes)
{
	char *from = fill_anew(piece_bytes);
	double start_s = now_s();

	for (size_t at = 0; at < size_bytes; at += piece_bytes) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)area + at,
			.src = (uintptr_t)from,
			.len = piece_bytes,
		};

		if (ioctl(uffd, UFFDIO_COPY, &copy) < 0)
			err(1, "UFFDIO_COPY");
	}
	double rate = (double)size_bytes / 1e6 / (now_s() - start_s);
	free(from);
	return rate;
}

static double copy(size_t size_bytes)
{
	struct place place;
	int report[2];

	if (pipe2(report, O_CLOEXEC) < 0)
		err(1, "pipe2");
	pid_t child = fork();
	if (child == 0)
		be_filled(size_bytes, report[1]);
	if (child < 0 || read(report[0], &place, sizeof(place)) != sizeof(place))
		errx(1, "the process to fill has failed");
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	int uffd = (int)syscall(SYS_pidfd_getfd, pidfd, place.uffd, 0);
	if (uffd < 0)
		err(1, "pidfd_getfd");
	double rate = copy_rate(uffd, place.area, size_bytes);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return rate;
}

/* ---- send, receive ---- */

static struct sockaddr_in address_of(char **args)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(args[1], NULL, 10))};

	if (inet_pton(AF_INET, args[0], &address.sin_addr) != 1)
		errx(1, "%s is no address", args[0]);
	return address;
}

static double receive(char **args)
{
	struct sockaddr_in address = address_of(args);
	const int one = 1;
	char *buffer = fill_anew(buffer_bytes);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	double bytes = 0;
	ssize_t n;

	if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		err(1, "listen");
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	double start_s = now_s();
	while ((n = recv(fd, buffer, buffer_bytes, 0)) > 0)
		bytes += (double)n;
	if (n < 0 || send(fd, "", 1, 0) != 1)
		err(1, "recv");
	return bytes / 1e6 / (now_s() - start_s);
}

static double send_all(char **args)
{
	struct sockaddr_in address = address_of(args);
	size_t size_bytes = strtoul(args[2], NULL, 10) << 20;
	char *buffer = fill_anew(buffer_bytes);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "connect");
	double start_s = now_s();
	for (size_t sent = 0; sent < size_bytes;) {
		ssize_t n = send(fd, buffer, buffer_bytes, 0);

		if (n < 0)
			err(1, "send");
		sent += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, buffer, 1, 0) != 1)
		errx(1, "the other side didn't get all");
	return (double)size_bytes / 1e6 / (now_s() - start_s);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "copy") == 0)
		printf("%.0f\n", copy(strtoul(argv[2], NULL, 10) << 20));
	else if (argc == 4 && strcmp(argv[1], "receive") == 0)
		printf("%.0f\n", receive(argv + 2));
	else if (argc == 5 && strcmp(argv[1], "send") == 0)
		printf("%.0f\n", send_all(argv + 2));
	else
		errx(2, "usage: limits copy MB|receive ADDRESS PORT|send ADDRESS PORT MB");
	return 0;
}
