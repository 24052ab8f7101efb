/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * stream: bytes there and back over TCP, each of them checked.
 *
 *     stream serve ADDRESS PORT DIR        echoes on any number of connections; DIR/ready has the PID
 *     stream check ADDRESS PORT [-c CONNECTIONS] [-b BYTES_PER_S] [-s SECONDS]
 *
 * The server has one thread and an epoll, and keeps what a slow client doesn't take in buffers of its own; it is the
 * program that is carried. The client sends a sequence that never repeats on each connection, as fast as it may
 * (BYTES_PER_S, of all together; 0: as fast as it goes), and compares every byte that comes back. At the end it shuts down its
 * sending side and waits for the rest. It prints a line of JSON ("slowest_us": the longest time in which nothing
 * arrived although something was under way) and exits with 0 if each byte came back once, in order.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"

#define BUFFER_BYTES 65536
#define CONNECTIONS_MAX 1000
#define SILENCE_LIMIT_NS (INT64_C(60) * 1000000000)

static struct addrinfo *resolve(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *address;

	if (getaddrinfo(host, port, &hints, &address) != 0)
		errx(2, "%s port %s: not an address", host, port);
	return address;
}

static void watch(int epoll, int action, int fd, uint32_t events, void *what)
{
	struct epoll_event event = {.events = events, .data.ptr = what};

	if (epoll_ctl(epoll, action, fd, &event) != 0)
		err(1, "epoll_ctl");
}

/* ---- The server ---- */

struct echo {
	int fd;
	bool is_ending; /* the client has sent all */
	size_t start;
	size_t end;
	char buffer[BUFFER_BYTES];
};

static void end_echo(int epoll, struct echo *echo)
{
	watch(epoll, EPOLL_CTL_DEL, echo->fd, 0, NULL);
	close(echo->fd);
	free(echo);
}

/* Sends what is in the buffer, then reads more. False when the connection is over. */
static bool pump(struct echo *echo)
{
	if (echo->start == echo->end && !echo->is_ending) {
		ssize_t size = recv(echo->fd, echo->buffer, sizeof(echo->buffer), MSG_DONTWAIT);

		if (size < 0 && errno != EAGAIN)
			return false;
		echo->is_ending = size == 0;
		echo->start = 0;
		echo->end = size > 0 ? (size_t)size : 0;
	}
	if (echo->start < echo->end) {
		ssize_t size = send(echo->fd, echo->buffer + echo->start, echo->end - echo->start,
		                    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (size < 0 && errno != EAGAIN)
			return false;
		echo->start += size > 0 ? (size_t)size : 0;
	}
	return !(echo->is_ending && echo->start == echo->end);
}

static void accept_echo(int epoll, int listener)
{
	struct echo *echo = calloc(1, sizeof(*echo));
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (!echo || fd < 0)
		err(1, "accept");
	echo->fd = fd;
	watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, echo);
} /* NOLINT(clang-analyzer-unix.Malloc): the epoll has it */

static int make_listener(const char *host, const char *port)
{
	struct addrinfo *address = resolve(host, port);
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, 512) != 0)
		err(1, "listen on %s port %s", host, port);
	freeaddrinfo(address);
	return fd;
}

static void say_ready(const char *dir)
{
	char path[4096];
	char draft[4096 + 4];

	snprintf(path, sizeof(path), "%s/ready", dir);
	snprintf(draft, sizeof(draft), "%s.new", path);
	FILE *file = fopen(draft, "we");
	if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "%s", path);
}

static _Noreturn void serve(const char *host, const char *port, const char *dir)
{
	int listener = make_listener(host, port);
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	say_ready(dir);
	for (;;) {
		struct epoll_event event;
		struct echo *echo;

		if (epoll_wait(epoll, &event, 1, -1) != 1)
			continue;
		echo = event.data.ptr;
		if (!echo)
			accept_echo(epoll, listener);
		else if (!pump(echo))
			end_echo(epoll, echo);
		else
			watch(epoll, EPOLL_CTL_MOD, echo->fd, echo->start < echo->end ? EPOLLOUT : EPOLLIN, echo);
	}
}

/* ---- The client ---- */

struct flow {
	int fd;
	uint64_t sent;
	uint64_t received;
	bool is_shut;
	bool is_over;
};

struct checker {
	unsigned int count;
	uint64_t bytes_per_s;
	int64_t start_ns;
	int64_t end_ns;
	int epoll;
	uint64_t sent;
	uint64_t received;
	uint64_t wrong;
	uint64_t errors;
	int64_t last_ns; /* when something arrived last */
	struct histogram silences;
	struct flow flows[CONNECTIONS_MAX];
};

/* The byte of a connection's sequence: no period within 2^60 bytes, neighbours and connections differ. */
static char byte_at(unsigned int flow, uint64_t at)
{
	uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15 ^ ((uint64_t)flow << 32);

	x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9;
	x ^= x >> 32;
	return (char)(x >> (at % 8 * 8));
}

static void send_some(struct checker *checker, struct flow *flow)
{
	unsigned int number = (unsigned int)(flow - checker->flows);
	char buffer[16384];
	int64_t now_ns = clock_ns();
	uint64_t allowed = UINT64_MAX;

	if (now_ns >= checker->end_ns) {
		if (!flow->is_shut)
			shutdown(flow->fd, SHUT_WR);
		flow->is_shut = true;
		watch(checker->epoll, EPOLL_CTL_MOD, flow->fd, EPOLLIN, flow);
		return;
	}
	if (checker->bytes_per_s)
		allowed = (uint64_t)(now_ns - checker->start_ns) / 1000 * checker->bytes_per_s / 1000000;
	if (checker->sent >= allowed) {
		usleep(500);
		return;
	}
	size_t size = sizeof(buffer) < allowed - checker->sent ? sizeof(buffer) : (size_t)(allowed - checker->sent);
	for (size_t i = 0; i < size; i++)
		buffer[i] = byte_at(number, flow->sent + i);
	ssize_t sent = send(flow->fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		checker->errors++;
	if (sent <= 0)
		return;
	if (checker->sent == checker->received)
		checker->last_ns = now_ns; /* nothing was under way: silence begins to count here */
	flow->sent += (size_t)sent;
	checker->sent += (size_t)sent;
}

static void receive_some(struct checker *checker, struct flow *flow)
{
	unsigned int number = (unsigned int)(flow - checker->flows);
	char buffer[16384];
	ssize_t size = recv(flow->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	int64_t now_ns = clock_ns();

	if (size < 0 && errno == EAGAIN)
		return;
	if (size <= 0) {
		flow->is_over = true;
		checker->errors += size < 0 || !flow->is_shut || flow->received != flow->sent;
		watch(checker->epoll, EPOLL_CTL_DEL, flow->fd, 0, NULL);
		return;
	}
	for (ssize_t i = 0; i < size; i++)
		checker->wrong += buffer[i] != byte_at(number, flow->received + (size_t)i);
	flow->received += (size_t)size;
	checker->received += (size_t)size;
	histogram_add(&checker->silences, now_ns - checker->last_ns, now_ns);
	checker->last_ns = now_ns;
}

static void open_flows(struct checker *checker, const char *host, const char *port)
{
	struct addrinfo *address = resolve(host, port);

	checker->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned int i = 0; i < checker->count; i++) {
		int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen) != 0)
			err(1, "connect to %s port %s", host, port);
		checker->flows[i].fd = fd;
		watch(checker->epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, &checker->flows[i]);
	}
	freeaddrinfo(address);
}

static bool all_over(const struct checker *checker)
{
	for (unsigned int i = 0; i < checker->count; i++)
		if (!checker->flows[i].is_over)
			return false;
	return true;
}

static int check(struct checker *checker)
{
	while (!all_over(checker)) {
		struct epoll_event events[16];
		int count = epoll_wait(checker->epoll, events, 16, 1000);

		for (int i = 0; i < count; i++) {
			struct flow *flow = events[i].data.ptr;

			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				receive_some(checker, flow);
			if ((events[i].events & EPOLLOUT) && !flow->is_over)
				send_some(checker, flow);
		}
		if (clock_ns() - checker->last_ns > SILENCE_LIMIT_NS) {
			checker->errors++;
			break;
		}
	}
	printf("{\"sent_bytes\": %" PRIu64 ", \"received_bytes\": %" PRIu64 ", \"wrong_bytes\": %" PRIu64
	       ", \"errors\": %" PRIu64 ", ",
	       checker->sent, checker->received, checker->wrong, checker->errors);
	histogram_json(&checker->silences, stdout);
	printf("}\n");
	return checker->errors || checker->wrong || checker->sent != checker->received;
}

int main(int argc, char **argv)
{
	static struct checker checker = {.count = 1};
	int64_t seconds = 10;
	int option;

	if (argc == 5 && strcmp(argv[1], "serve") == 0)
		serve(argv[2], argv[3], argv[4]);
	if (argc < 4 || strcmp(argv[1], "check") != 0)
		errx(2, "usage: see the head of stream.c");
	optind = 4;
	while ((option = getopt(argc, argv, "c:b:s:")) != -1) {
		if (option == 'c')
			checker.count = (unsigned int)strtoul(optarg, NULL, 10);
		else if (option == 'b')
			checker.bytes_per_s = strtoull(optarg, NULL, 10);
		else if (option == 's')
			seconds = strtoll(optarg, NULL, 10);
		else
			return 2;
	}
	if (checker.count == 0 || checker.count > CONNECTIONS_MAX)
		errx(2, "1 to %d connections", CONNECTIONS_MAX);
	open_flows(&checker, argv[2], argv[3]);
	checker.start_ns = checker.last_ns = clock_ns();
	checker.end_ns = checker.start_ns + seconds * 1000000000;
	return check(&checker);
}
