/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Multipath TCP from the inside: listening sockets, which servers in Go make, with a connection that a client of plain TCP
 * has made, and one that is not connected. New clients of both kinds are served afterwards.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "sockets.h"

enum { KEEP_IDLE = 4321, BACKLOG = 9, ADDRESS_BYTES = sizeof(struct sockaddr_storage) };

/* Not where a kernel lacks it. */
static int make_socket(const struct subject *subject, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd < 0) {
		subject_write(subject, "verdict", "skip: no multipath TCP here\n");
		_exit(0);
	}
	return fd;
}

static int make_listener(const struct subject *subject, int family)
{
	struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
	int fd = make_socket(subject, family);

	set(subject, fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set(subject, fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE);
	check(subject, bind(fd, (struct sockaddr *)&any, ADDRESS_BYTES) == 0 && listen(fd, BACKLOG) == 0, "listen");
	return fd;
}

static int connect_to(const struct subject *subject, int listener, int protocol)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	check(subject, getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
	int fd = socket(address.ss_family, SOCK_STREAM, protocol);
	if (address.ss_family == AF_INET)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
	check(subject, connect(fd, (struct sockaddr *)&address, size) == 0, "connect");
	return fd;
}

static int accept_from(const struct subject *subject, int listener)
{
	int fd = accept(listener, NULL, NULL);

	check(subject, fd >= 0, "accept");
	return fd;
}

static void talk(const struct subject *subject, const char *what, int one, int other)
{
	char byte = 0;

	if (send(one, "x", 1, 0) != 1 || recv(other, &byte, 1, 0) != 1 || byte != 'x' || send(other, "y", 1, 0) != 1 ||
	    recv(one, &byte, 1, 0) != 1 || byte != 'y')
		subject_fail(subject, "%s: they don't talk, errno %d", what, errno);
}

static void serve(const struct subject *subject, int listener, int protocol)
{
	int client = connect_to(subject, listener, protocol);
	int served = accept_from(subject, listener);

	talk(subject, "a new client", client, served);
	if (get(served, SOL_SOCKET, SO_PROTOCOL) != protocol)
		subject_fail(subject, "client of protocol %d served by %d", protocol,
		             get(served, SOL_SOCKET, SO_PROTOCOL));
	close(client);
	close(served);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int listener = make_listener(&subject, AF_INET);
	int listener6 = make_listener(&subject, AF_INET6);
	int fresh = make_socket(&subject, AF_INET);
	int client = connect_to(&subject, listener, 0);
	int served = accept_from(&subject, listener);
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	check(&subject, send(client, "waits", 5, 0) == 5, "send");

	subject_ready(&subject);

	char bytes[5] = "";
	check(&subject, recv(served, bytes, 5, MSG_WAITALL) == 5 && bytes[4] == 's', "what waited");
	talk(&subject, "the old client", client, served);
	serve(&subject, listener, IPPROTO_MPTCP);
	serve(&subject, listener, IPPROTO_TCP);
	serve(&subject, listener6, IPPROTO_MPTCP);
	if (get(listener, IPPROTO_TCP, TCP_KEEPIDLE) != KEEP_IDLE || get(listener, SOL_SOCKET, SO_REUSEADDR) != 1 ||
	    fcntl(listener, F_GETFD) != FD_CLOEXEC || get(fresh, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_MPTCP)
		subject_fail(&subject, "options of the listener, or another socket");
	if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_sacked != BACKLOG)
		subject_fail(&subject, "backlog of %u", info.tcpi_sacked);
	return subject_pass(&subject);
}
