/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A connection that was accepted under a lower number than its listening socket has, neither with SO_REUSEADDR: both have
 * one port, which nobody could bind and listen at any more once the connection is there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "subject.h"

struct sockets {
	int listener, accepted, client;
	struct sockaddr_in address;
};

static int connect_to(const struct subject *subject, const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
		subject_fail(subject, "connect: errno %d", errno);
	return fd;
}

static struct sockets set_up(const struct subject *subject)
{
	struct sockets sockets = {.address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(sockets.address);
	int low = open("/dev/null", O_RDONLY | O_CLOEXEC);

	sockets.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(sockets.listener, (struct sockaddr *)&sockets.address, size) != 0 ||
	    listen(sockets.listener, 4) != 0 ||
	    getsockname(sockets.listener, (struct sockaddr *)&sockets.address, &size) != 0)
		subject_fail(subject, "listen: errno %d", errno);
	sockets.client = connect_to(subject, &sockets.address);
	close(low);
	sockets.accepted = accept4(sockets.listener, NULL, NULL, SOCK_CLOEXEC);
	if (sockets.accepted < 0 || sockets.accepted >= sockets.listener)
		subject_fail(subject, "accepted as %d, listening as %d", sockets.accepted, sockets.listener);
	return sockets;
}

static void check_bytes(const struct subject *subject, const char *what, int from, int to)
{
	static const char sent[] = "godwit 7f3a9";
	char received[sizeof(sent)] = "";

	if (send(from, sent, sizeof(sent), 0) != sizeof(sent) ||
	    recv(to, received, sizeof(received), MSG_WAITALL) != sizeof(received) || strcmp(sent, received) != 0)
		subject_fail(subject, "%s: \"%.*s\", errno %d", what, (int)sizeof(received), received, errno);
}

static void check_reuse(const struct subject *subject, const char *what, int fd)
{
	int reuse = -1;
	socklen_t size = sizeof(reuse);

	if (getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &size) != 0 || reuse != 0)
		subject_fail(subject, "%s: SO_REUSEADDR is %d", what, reuse);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct sockets sockets = set_up(&subject);

	subject_ready(&subject);

	check_bytes(&subject, "to the listener's side", sockets.client, sockets.accepted);
	check_bytes(&subject, "back", sockets.accepted, sockets.client);
	check_reuse(&subject, "listener", sockets.listener);
	check_reuse(&subject, "accepted", sockets.accepted);
	check_reuse(&subject, "client", sockets.client);
	int client = connect_to(&subject, &sockets.address);
	int accepted = accept4(sockets.listener, NULL, NULL, SOCK_CLOEXEC);
	check_bytes(&subject, "a new connection", client, accepted);
	return subject_pass(&subject);
}
