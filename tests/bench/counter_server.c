/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <err.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "counter_server.h"

struct counter {
	int fd;
	unsigned int lines; /* of the request that is being read: "*2", "$4", "INCR", "$KEY_BYTES", KEY */
	uint64_t value;
};

struct counter_server {
	int listener;
	int epoll;
};

#define LINES_OF_REQUEST 5

static void watch(int epoll, int fd, void *what)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		err(1, "epoll_ctl");
}

static void accept_counter(const struct counter_server *server)
{
	struct counter *counter = calloc(1, sizeof(*counter));
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

	if (!counter || fd < 0)
		err(1, "accept");
	counter->fd = fd;
	watch(server->epoll, fd, counter);
} /* NOLINT(clang-analyzer-unix.Malloc): the epoll has it */

static void serve_counter(struct counter *counter)
{
	char buffer[4096];
	char reply[32];
	ssize_t size = recv(counter->fd, buffer, sizeof(buffer), 0);

	if (size <= 0) {
		close(counter->fd);
		free(counter);
		return;
	}
	for (ssize_t i = 0; i < size; i++)
		counter->lines += buffer[i] == '\n';
	for (; counter->lines >= LINES_OF_REQUEST; counter->lines -= LINES_OF_REQUEST) {
		int length = snprintf(reply, sizeof(reply), ":%llu\r\n", (unsigned long long)++counter->value);

		if (send(counter->fd, reply, (size_t)length, MSG_NOSIGNAL) != length)
			err(1, "send");
	}
}

static void *serve(void *argument)
{
	struct counter_server *server = argument;

	for (;;) {
		struct epoll_event event;

		if (epoll_wait(server->epoll, &event, 1, -1) != 1)
			continue;
		if (event.data.ptr)
			serve_counter(event.data.ptr);
		else
			accept_counter(server);
	}
	return NULL;
}

void counter_server_start(const char *address, unsigned int port)
{
	static struct counter_server server;
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1;
	pthread_t thread;

	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (inet_pton(AF_INET, address, &local.sin_addr) != 1 ||
	    bind(server.listener, (struct sockaddr *)&local, sizeof(local)) != 0 || listen(server.listener, 512) != 0)
		err(1, "listen on %s port %u", address, port);
	watch(server.epoll, server.listener, NULL);
	if (pthread_create(&thread, NULL, serve, &server) != 0)
		err(1, "thread");
}
