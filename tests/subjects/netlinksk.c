/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sockets of netlink(7) from the inside: ports, groups of all sizes of numbers, options, a filter, one that is connected
 * to the kernel and one to a group; questions are answered and events arrive afterwards, and none did meanwhile that the
 * filter would have dropped.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "sockets.h"

enum {
	PORT = 0x12345678,
	GROUP_ADDRESSES = RTNLGRP_IPV4_IFADDR,
	GROUP_FAR = 33, /* behind the bits that an address has */
	GROUP_UDEV = 2,
	GROUP_NOTIFY = 16, /* of nlctrl, the family that names the others: the same everywhere */
	LIST_BYTES = 64,
	WAIT_MS = 10000,
};

static int open_bus(const struct subject *subject, int type, int bus, uint32_t port)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = port};
	int fd = socket(AF_NETLINK, type, bus);

	check(subject, fd >= 0, "socket");
	check(subject, port == 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0, "bind");
	return fd;
}

static void connect_to(const struct subject *subject, int fd, uint32_t groups)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};

	check(subject, connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0, "connect");
}

static struct sockaddr_nl name_of(int fd, int is_peer)
{
	struct sockaddr_nl address = {0};
	socklen_t size = sizeof(address);

	(is_peer ? getpeername : getsockname)(fd, (struct sockaddr *)&address, &size);
	return address;
}

static int is_member(int fd, int group)
{
	uint32_t groups[LIST_BYTES / sizeof(uint32_t)] = {0};
	socklen_t size = sizeof(groups);

	getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &size);
	return (int)(groups[(group - 1) / 32] >> (group - 1) % 32 & 1);
}

static int is_silent(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	return poll(&wait, 1, 0) == 0;
}

/* The type of the first message that comes. */
static int receive(const struct subject *subject, const char *what, int fd)
{
	union {
		struct nlmsghdr header;
		char bytes[32768];
	} message;
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	check(subject, poll(&wait, 1, WAIT_MS) == 1, what);
	check(subject, recv(fd, &message, sizeof(message), 0) >= (ssize_t)sizeof(message.header), what);
	return message.header.nlmsg_type;
}

static void drain(int fd)
{
	char bytes[32768];

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void ask_for_links(const struct subject *subject, int fd)
{
	const struct {
		struct nlmsghdr header;
		struct ifinfomsg body;
	} request = {{sizeof(request), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {.ifi_family = AF_UNSPEC}};

	check(subject, send(fd, &request, sizeof(request), 0) == sizeof(request), "send");
	if (receive(subject, "an answer", fd) != RTM_NEWLINK)
		subject_fail(subject, "links aren't told");
	drain(fd);
}

/* Makes an event for those who listen to addresses. */
static void add_address(const struct subject *subject)
{
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg body;
		struct rtattr attribute;
		struct in_addr address;
	} request = {{sizeof(request), RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE, 8, 0},
	             {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_scope = RT_SCOPE_HOST, .ifa_index = 1},
	             {sizeof(request.attribute) + sizeof(request.address), IFA_LOCAL},
	             {htonl(0x7f4d4d4d)}};
	int fd = open_bus(subject, SOCK_RAW, NETLINK_ROUTE, 0);

	check(subject, send(fd, &request, sizeof(request), 0) == sizeof(request), "add an address");
	close(fd);
}

/* Nobody but the kernel may send to one that is connected to it. */
static int takes_from_others(const struct subject *subject, int fd)
{
	const struct sockaddr_nl to = name_of(fd, 0);
	int other = open_bus(subject, SOCK_RAW, NETLINK_ROUTE, 0);
	int ok = sendto(other, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)) == 1;

	check(subject, ok || errno == ECONNREFUSED, "send to another socket");
	close(other);
	drain(fd);
	return ok;
}

static int make_events(const struct subject *subject)
{
	struct sock_filter nothing[] = {BPF_STMT(BPF_LD | BPF_IMM, 7), BPF_STMT(BPF_RET | BPF_K, 0)};
	const struct sock_fprog program = {2, nothing};
	int fd = open_bus(subject, SOCK_RAW, NETLINK_KOBJECT_UEVENT, PORT + 1);

	check(subject, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0, "filter");
	set(subject, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_UDEV);
	set(subject, fd, SOL_SOCKET, SO_PASSCRED, 1);
	set(subject, fd, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
	return fd;
}

static void check_events(const struct subject *subject, int fd)
{
	socklen_t count = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &count) != 0 || count != 2)
		subject_fail(subject, "filter of %u instructions", count);
	if (!is_member(fd, GROUP_UDEV) || is_member(fd, 1) || get(fd, SOL_SOCKET, SO_PASSCRED) != 1 ||
	    get(fd, SOL_SOCKET, SO_RCVBUF) != 2 << 20 || name_of(fd, 0).nl_pid != PORT + 1)
		subject_fail(subject, "events: port %#x, credentials %d, buffer %d", name_of(fd, 0).nl_pid,
		             get(fd, SOL_SOCKET, SO_PASSCRED), get(fd, SOL_SOCKET, SO_RCVBUF));
}

static int make_route(const struct subject *subject)
{
	int fd = open_bus(subject, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE, PORT);

	set(subject, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_ADDRESSES);
	set(subject, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_FAR);
	set(subject, fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set(subject, fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	set(subject, fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	set(subject, fd, SOL_NETLINK, NETLINK_BROADCAST_ERROR, 1);
	return fd;
}

static void check_route(const struct subject *subject, int fd)
{
	if (name_of(fd, 0).nl_pid != PORT || get(fd, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM ||
	    fcntl(fd, F_GETFD) != FD_CLOEXEC || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
		subject_fail(subject, "port %#x, type %d", name_of(fd, 0).nl_pid, get(fd, SOL_SOCKET, SO_TYPE));
	if (!is_member(fd, GROUP_ADDRESSES) || !is_member(fd, GROUP_FAR) || is_member(fd, RTNLGRP_LINK))
		subject_fail(subject, "groups");
	if (get(fd, SOL_NETLINK, NETLINK_EXT_ACK) != 1 || get(fd, SOL_NETLINK, NETLINK_CAP_ACK) != 1 ||
	    get(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK) != 1 || get(fd, SOL_NETLINK, NETLINK_BROADCAST_ERROR) != 1 ||
	    get(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS) != 0)
		subject_fail(subject, "options");
	drain(fd); /* the addresses of another host may have changed */
	ask_for_links(subject, fd);
	add_address(subject);
	if (receive(subject, "an event", fd) != RTM_NEWADDR)
		subject_fail(subject, "another event");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int route = make_route(&subject);
	int events = make_events(&subject);
	int closed = open_bus(&subject, SOCK_RAW, NETLINK_ROUTE, PORT + 2);
	int open = open_bus(&subject, SOCK_RAW, NETLINK_ROUTE, PORT + 3);
	int to_group = open_bus(&subject, SOCK_RAW, NETLINK_ROUTE, PORT + 4);
	int unbound = open_bus(&subject, SOCK_RAW, NETLINK_SOCK_DIAG, 0);
	int generic = open_bus(&subject, SOCK_RAW, NETLINK_GENERIC, PORT + 5);
	int audit = open_bus(&subject, SOCK_RAW, NETLINK_AUDIT, PORT + 6);

	connect_to(&subject, closed, 0);
	connect_to(&subject, to_group, 1 << 2);
	set(&subject, generic, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_NOTIFY);
	set(&subject, generic, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);

	subject_ready(&subject);

	if (!is_silent(closed) || !is_silent(unbound) || !is_silent(generic) || !is_silent(events))
		subject_fail(&subject, "something has come in");
	check_route(&subject, route);
	check_events(&subject, events);
	if (takes_from_others(&subject, closed) || !takes_from_others(&subject, open))
		subject_fail(&subject, "connected to the kernel, or not");
	if (name_of(to_group, 1).nl_groups != 1 << 2 || name_of(open, 1).nl_groups != 0)
		subject_fail(&subject, "connected to groups %#x", name_of(to_group, 1).nl_groups);
	if (name_of(unbound, 0).nl_pid != 0 || name_of(audit, 0).nl_pid != PORT + 6)
		subject_fail(&subject, "unbound has port %#x, audit %#x", name_of(unbound, 0).nl_pid,
		             name_of(audit, 0).nl_pid);
	if (!is_member(generic, GROUP_NOTIFY) || get(generic, SOL_NETLINK, NETLINK_NO_ENOBUFS) != 1)
		subject_fail(&subject, "generic");
	return subject_pass(&subject);
}
