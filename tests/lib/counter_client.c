/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * counter_client: increments counters in redis and believes nothing.
 *
 *     counter_client [-h ADDRESS] [-p PORT] [-c CONNECTIONS] [-i MICROSECONDS] [-s SECONDS] [-r REPORT]
 *
 * Each connection has a counter of its own and one request at a time: INCR every interval (1 ms), or as soon as the
 * reply is there. Each reply must be the last one plus one: more means that an increment was done twice, less that
 * one was lost. An error of the socket ends everything: a client of a moved server must never see one.
 *
 * SIGUSR1 writes a report and begins a new one (counts of errors stay); SIGTERM, SIGINT or the end of the seconds
 * writes the last one and ends. A report is a line of JSON on standard output, or in the file REPORT, put there whole;
 * there the first one, of nothing, says that signals are listened to.
 * "slowest_us" is the longest wait for a reply. The exit status is 0 if nothing was wrong.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"

#define CONNECTIONS_MAX 1000
#define REPLY_LIMIT_NS (INT64_C(60) * 1000000000)

struct connection {
	int fd;
	char request[64];
	char reply[64];
	size_t reply_bytes;
	int64_t last;    /* the counter's value as of the last reply, -1 before the first */
	int64_t sent_ns; /* 0: no request is out */
	int64_t due_ns;  /* when the next one goes */
};

struct client {
	const char *host;
	const char *port;
	const char *report; /* NULL: standard output */
	unsigned int count;
	int64_t interval_ns;
	int64_t end_ns; /* 0: until a signal */
	int epoll;
	int signals;
	bool is_ending;
	struct histogram histogram;
	uint64_t lost;
	uint64_t doubled;
	uint64_t errors;
	struct connection connections[CONNECTIONS_MAX];
};

static void say_error(struct client *client, const struct connection *connection, const char *what)
{
	fprintf(stderr, "connection %d: %s\n", (int)(connection - client->connections), what);
	client->errors++;
	client->is_ending = true;
}

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *address;
	int one = 1;

	if (getaddrinfo(host, port, &hints, &address) != 0)
		errx(2, "%s port %s: not an address", host, port);
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen) != 0)
		err(1, "connect to %s port %s", host, port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	freeaddrinfo(address);
	return fd;
}

static void send_request(struct client *client, struct connection *connection, int64_t now_ns)
{
	size_t size = strlen(connection->request);

	connection->sent_ns = now_ns;
	connection->due_ns = now_ns + client->interval_ns;
	if (send(connection->fd, connection->request, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
		say_error(client, connection, strerror(errno));
}

/* One whole reply, ":123\r\n". */
static void check_reply(struct client *client, struct connection *connection, int64_t now_ns)
{
	char *end = connection->reply;
	int64_t value = connection->reply[0] == ':' ? strtoll(connection->reply + 1, &end, 10) : 0;

	if (end == connection->reply || strcmp(end, "\r\n") != 0) {
		say_error(client, connection, connection->reply);
		return;
	}
	if (connection->last >= 0 && value > connection->last + 1)
		client->doubled++;
	if (connection->last >= 0 && value < connection->last + 1)
		client->lost++;
	connection->last = value;
	connection->reply_bytes = 0;
	histogram_add(&client->histogram, now_ns - connection->sent_ns, now_ns);
	connection->sent_ns = 0;
}

static void receive_reply(struct client *client, struct connection *connection)
{
	char *at = connection->reply + connection->reply_bytes;
	ssize_t size = recv(connection->fd, at, sizeof(connection->reply) - 1 - connection->reply_bytes, 0);

	if (size <= 0) {
		say_error(client, connection, size == 0 ? "closed by the server" : strerror(errno));
		return;
	}
	connection->reply_bytes += (size_t)size;
	connection->reply[connection->reply_bytes] = '\0';
	if (!connection->sent_ns)
		say_error(client, connection, "a reply without a request");
	else if (strchr(connection->reply, '\n'))
		check_reply(client, connection, clock_ns());
}

static void write_report(const struct client *client)
{
	char draft[4096];
	FILE *out = stdout;

	if (client->report) {
		snprintf(draft, sizeof(draft), "%s.new", client->report);
		out = fopen(draft, "we");
		if (!out)
			err(2, "%s", draft);
	}
	fprintf(out, "{\"connections\": %u, \"errors\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"doubled\": %" PRIu64 ", ",
	        client->count, client->errors, client->lost, client->doubled);
	histogram_json(&client->histogram, out);
	fprintf(out, "}\n");
	fflush(out);
	if (client->report && (fclose(out) != 0 || rename(draft, client->report) != 0))
		err(2, "%s", client->report);
}

static void handle_signal(struct client *client)
{
	struct signalfd_siginfo info;

	if (read(client->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGUSR1) {
		client->is_ending = true;
		return;
	}
	write_report(client);
	client->histogram = (struct histogram){0};
}

/* Sends what is due. Returns when the next one is, or the end. */
static int64_t send_due(struct client *client)
{
	int64_t now_ns = clock_ns();
	int64_t next_ns = now_ns + 1000000000;

	for (unsigned int i = 0; i < client->count; i++) {
		struct connection *connection = &client->connections[i];

		if (connection->sent_ns) {
			if (now_ns - connection->sent_ns > REPLY_LIMIT_NS)
				say_error(client, connection, "no reply for a minute");
			continue;
		}
		if (connection->due_ns <= now_ns)
			send_request(client, connection, now_ns);
		else if (connection->due_ns < next_ns)
			next_ns = connection->due_ns;
	}
	return next_ns;
}

static void turn(struct client *client)
{
	struct epoll_event events[64];
	int64_t wait_ns = send_due(client) - clock_ns();
	struct timespec timeout = {0};

	if (wait_ns > 0)
		timeout = (struct timespec){.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
	int count = epoll_pwait2(client->epoll, events, 64, &timeout, NULL);
	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr)
			receive_reply(client, events[i].data.ptr);
		else
			handle_signal(client);
	}
	if (client->end_ns && clock_ns() >= client->end_ns)
		client->is_ending = true;
}

static void open_all(struct client *client)
{
	sigset_t signals;
	struct epoll_event event = {.events = EPOLLIN};

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	client->signals = signalfd(-1, &signals, SFD_CLOEXEC);
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, client->signals, &event) != 0)
		err(1, "epoll");
	for (unsigned int i = 0; i < client->count; i++) {
		struct connection *connection = &client->connections[i];
		char key[32];
		int key_bytes = snprintf(key, sizeof(key), "counter:%d:%u", getpid(), i);

		connection->fd = connect_to(client->host, client->port);
		snprintf(connection->request, sizeof(connection->request), "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n",
		         key_bytes, key);
		connection->last = -1;
		connection->due_ns = clock_ns() + client->interval_ns * i / client->count; /* not all at once */
		event.data.ptr = connection;
		if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
			err(1, "epoll");
	}
}

static void parse_options(struct client *client, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "h:p:c:i:s:r:")) != -1) {
		if (option == 'h')
			client->host = optarg;
		else if (option == 'p')
			client->port = optarg;
		else if (option == 'c')
			client->count = (unsigned int)strtoul(optarg, NULL, 10);
		else if (option == 'i')
			client->interval_ns = strtoll(optarg, NULL, 10) * 1000;
		else if (option == 's')
			client->end_ns = clock_ns() + strtoll(optarg, NULL, 10) * 1000000000;
		else if (option == 'r')
			client->report = optarg;
		else
			exit(2);
	}
	if (client->count == 0 || client->count > CONNECTIONS_MAX || optind != argc)
		errx(2, "usage: see the head of counter_client.c");
}

int main(int argc, char **argv)
{
	static struct client client = {.host = "127.0.0.1", .port = "6379", .count = 1, .interval_ns = 1000000};

	parse_options(&client, argc, argv);
	open_all(&client);
	if (client.report)
		write_report(&client);
	while (!client.is_ending)
		turn(&client);
	write_report(&client);
	return client.errors + client.lost + client.doubled != 0;
}
