/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sockets of tcp(7) and udp(7) from the inside, both ends of each connection in one program: bytes that wait in both
 * directions, halves that are closed, IPv6 and mapped addresses, a listener with its options, bound and connected UDP.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "sockets.h"

enum { QUEUE_BYTES = 100000, KEEP_IDLE = 4321, PRIORITY = 3, BACKLOG = 17, WAIT_MS = 10000 };

struct pair {
	int one, other;
};

static socklen_t loopback(int family, int mapped, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	address->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*v4);
	}
	inet_pton(AF_INET6, mapped ? "::ffff:127.0.0.1" : "::1", &v6->sin6_addr);
	return sizeof(*v6);
}

static int make_listener(const struct subject *subject, int family, int mapped)
{
	struct sockaddr_storage address;
	socklen_t size = loopback(family, mapped, &address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;

	check(subject, fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0, "socket");
	check(subject, bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, BACKLOG) == 0, "listen");
	return fd;
}

static struct pair connect_to(const struct subject *subject, int listener)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	check(subject, getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
	struct pair pair = {.one = socket(address.ss_family, SOCK_STREAM, 0)};
	check(subject, connect(pair.one, (struct sockaddr *)&address, size) == 0, "connect");
	pair.other = accept(listener, NULL, NULL);
	check(subject, pair.other >= 0, "accept");
	return pair;
}

static void fill(char *bytes, size_t size_bytes, int seed)
{
	for (size_t i = 0; i < size_bytes; i++)
		bytes[i] = (char)(i * 7 + i / 251 + (size_t)seed);
}

static void send_all(const struct subject *subject, int fd, int seed)
{
	static char bytes[QUEUE_BYTES];

	fill(bytes, sizeof(bytes), seed);
	check(subject, send(fd, bytes, sizeof(bytes), 0) == sizeof(bytes), "send");
}

static void expect_all(const struct subject *subject, const char *what, int fd, int seed)
{
	static char bytes[QUEUE_BYTES];
	static char expected[QUEUE_BYTES];

	fill(expected, sizeof(expected), seed);
	if (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes) || memcmp(bytes, expected, sizeof(bytes)) != 0)
		subject_fail(subject, "%s: other bytes, errno %d", what, errno);
}

static void expect_end(const struct subject *subject, const char *what, int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char byte;

	if (poll(&wait, 1, WAIT_MS) != 1 || recv(fd, &byte, 1, MSG_DONTWAIT) != 0)
		subject_fail(subject, "%s: not at its end, errno %d", what, errno);
}

static void talk(const struct subject *subject, const char *what, const struct pair *pair)
{
	char byte = 0;

	if (send(pair->one, "x", 1, 0) != 1 || recv(pair->other, &byte, 1, 0) != 1 || byte != 'x' ||
	    send(pair->other, "y", 1, 0) != 1 || recv(pair->one, &byte, 1, 0) != 1 || byte != 'y')
		subject_fail(subject, "%s: they don't talk, errno %d", what, errno);
}

/* Of a listener it is told there: tcp_get_info() of Linux. */
static void check_backlog(const struct subject *subject, int listener)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	check(subject, getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0, "TCP_INFO");
	if (info.tcpi_sacked != BACKLOG)
		subject_fail(subject, "backlog of %u", info.tcpi_sacked);
}

/* ---- UDP ---- */

static struct pair make_udp(const struct subject *subject)
{
	struct sockaddr_storage address;
	socklen_t size = loopback(AF_INET, 0, &address);
	struct pair pair = {.one = socket(AF_INET, SOCK_DGRAM, 0), .other = socket(AF_INET, SOCK_DGRAM, 0)};

	check(subject, bind(pair.other, (struct sockaddr *)&address, size) == 0, "bind");
	check(subject, getsockname(pair.other, (struct sockaddr *)&address, &size) == 0, "getsockname");
	check(subject, connect(pair.one, (struct sockaddr *)&address, size) == 0, "connect");
	return pair;
}

static void check_udp(const struct subject *subject, const struct pair *pair)
{
	char bytes[8] = "";
	struct pollfd wait = {.fd = pair->other, .events = POLLIN};

	check(subject, send(pair->one, "udp", 3, 0) == 3, "UDP send");
	check(subject, poll(&wait, 1, WAIT_MS) == 1 && recv(pair->other, bytes, sizeof(bytes), 0) == 3, "UDP receive");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int listener = make_listener(&subject, AF_INET, 0);
	int listener6 = make_listener(&subject, AF_INET6, 0);
	int mapped_listener = make_listener(&subject, AF_INET6, 1);
	struct pair idle = connect_to(&subject, listener);
	struct pair full = connect_to(&subject, listener6);
	struct pair mapped = connect_to(&subject, mapped_listener);
	struct pair half = connect_to(&subject, listener);
	struct pair half_full = connect_to(&subject, listener6);
	struct pair udp = make_udp(&subject);
	int unbound = socket(AF_INET, SOCK_STREAM, 0);

	set(&subject, idle.one, IPPROTO_TCP, TCP_NODELAY, 1);
	set(&subject, idle.one, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE);
	set(&subject, idle.one, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(&subject, idle.other, SOL_SOCKET, SO_PRIORITY, PRIORITY);
	send_all(&subject, full.one, 1);
	send_all(&subject, full.other, 2);
	send_all(&subject, mapped.one, 3);
	shutdown(half.one, SHUT_WR);
	send_all(&subject, half_full.one, 4);
	shutdown(half_full.one, SHUT_WR);

	subject_ready(&subject);

	talk(&subject, "idle", &idle);
	if (get(idle.one, IPPROTO_TCP, TCP_NODELAY) != 1 || get(idle.one, IPPROTO_TCP, TCP_KEEPIDLE) != KEEP_IDLE ||
	    get(idle.one, SOL_SOCKET, SO_KEEPALIVE) != 1 || get(idle.other, SOL_SOCKET, SO_PRIORITY) != PRIORITY ||
	    get(idle.other, SOL_SOCKET, SO_REUSEADDR) != 1 || get(idle.one, SOL_SOCKET, SO_REUSEADDR) != 0)
		subject_fail(&subject, "options: %d %d %d %d, reuse %d %d", get(idle.one, IPPROTO_TCP, TCP_NODELAY),
		             get(idle.one, IPPROTO_TCP, TCP_KEEPIDLE), get(idle.one, SOL_SOCKET, SO_KEEPALIVE),
		             get(idle.other, SOL_SOCKET, SO_PRIORITY), get(idle.other, SOL_SOCKET, SO_REUSEADDR),
		             get(idle.one, SOL_SOCKET, SO_REUSEADDR));
	expect_all(&subject, "IPv6", full.other, 1);
	expect_all(&subject, "IPv6, the other way", full.one, 2);
	talk(&subject, "IPv6", &full);
	expect_all(&subject, "mapped", mapped.other, 3);
	talk(&subject, "mapped", &mapped);
	expect_end(&subject, "half closed", half.other);
	expect_all(&subject, "half closed and full", half_full.other, 4);
	expect_end(&subject, "half closed and full", half_full.other);
	send_all(&subject, half.other, 5);
	expect_all(&subject, "open half", half.one, 5);
	check_udp(&subject, &udp);
	struct pair newly = connect_to(&subject, listener);
	talk(&subject, "a new connection", &newly);
	check_backlog(&subject, listener);
	if (fcntl(listener, F_GETFD) != FD_CLOEXEC || get(unbound, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
		subject_fail(&subject, "listener or unbound socket changed");
	return subject_pass(&subject);
}
