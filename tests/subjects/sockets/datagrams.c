/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Datagrams that wait in sockets of udp(7), from the inside: their order, borders, senders, and what the program has asked
 * to see of them, by IPv4, IPv6 and mapped addresses; to a socket that is bound to all addresses, and a connected one; such
 * that have no bytes, or as many as there can be. The traps: whoever looks at them moves the program's own SO_PEEK_OFF; room
 * for them; one look may use up an error, or a datagram of no bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "sockets.h"

enum { LARGEST_BYTES = 65507, LARGE_COUNT = 3, PEEK_OFFSET = 4, TTL = 77, TRAFFIC_CLASS = 0x28, ROOM_BYTES = 1 << 20 };

struct pair {
	int receiver, sender;
	struct sockaddr_in6 to, from; /* or sockaddr_in */
};

static socklen_t size_of(const struct sockaddr_in6 *address)
{
	return address->sin6_family == AF_INET6 ? sizeof(*address) : sizeof(struct sockaddr_in);
}

/* At a port of the kernel's choice; to an address that can be sent to. */
static int bind_to(const struct subject *subject, int family, const char *text, struct sockaddr_in6 *ret_address)
{
	struct sockaddr_in6 address = {.sin6_family = (sa_family_t)family};
	socklen_t size = size_of(&address);
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	inet_pton(family, text,
	          family == AF_INET ? (void *)&((struct sockaddr_in *)&address)->sin_addr : &address.sin6_addr);
	check(subject, fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0, text);
	check(subject, getsockname(fd, (struct sockaddr *)ret_address, &size) == 0, "getsockname");
	return fd;
}

/* The receiver is bound to text, and is sent to at to. */
static struct pair make(const struct subject *subject, int family, const char *text, const char *to)
{
	struct pair pair;

	pair.receiver = bind_to(subject, family, text, &pair.to);
	pair.sender = bind_to(subject, family, to, &pair.from);
	if (family == AF_INET)
		inet_pton(family, to, &((struct sockaddr_in *)&pair.to)->sin_addr);
	else
		inet_pton(family, to, &pair.to.sin6_addr);
	return pair;
}

static void say(const struct subject *subject, const struct pair *pair, const void *bytes, size_t size_bytes)
{
	ssize_t sent =
		sendto(pair->sender, bytes, size_bytes, 0, (const struct sockaddr *)&pair->to, size_of(&pair->to));

	if (sent != (ssize_t)size_bytes)
		subject_fail(subject, "sendto of %zu bytes: %zd, errno %d", size_bytes, sent, errno);
}

static void expect(const struct subject *subject, const char *what, const struct pair *pair, const void *bytes,
                   size_t size_bytes)
{
	static char seen[LARGEST_BYTES + 1];
	struct sockaddr_in6 from = {0};
	socklen_t size = sizeof(from);
	ssize_t received = recvfrom(pair->receiver, seen, sizeof(seen), 0, (struct sockaddr *)&from, &size);

	if (received != (ssize_t)size_bytes || memcmp(seen, bytes, size_bytes) != 0)
		subject_fail(subject, "%s: %zd bytes, not %zu, errno %d", what, received, size_bytes, errno);
	if (size != size_of(&pair->from) || memcmp(&from, &pair->from, size) != 0)
		subject_fail(subject, "%s: from somebody else", what);
}

static void expect_empty(const struct subject *subject, const char *what, const struct pair *pair)
{
	char byte;

	if (recv(pair->receiver, &byte, 1, 0) != -1 || errno != EAGAIN)
		subject_fail(subject, "%s: more than there was, or errno %d", what, errno);
}

static void talk(const struct subject *subject, const char *what, const struct pair *pair)
{
	say(subject, pair, "later", 5);
	expect(subject, what, pair, "later", 5);
	expect_empty(subject, what, pair);
}

/* ---- What the program has asked to see ---- */

struct seen {
	int hops, traffic_class;
	bool is_to_loopback;
};

static struct seen receive_all(const struct subject *subject, int fd)
{
	struct seen seen = {.hops = -1, .traffic_class = -1};
	char control[512];
	char bytes[16];
	struct iovec data = {bytes, sizeof(bytes)};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

	check(subject, recvmsg(fd, &message, 0) == 4, "recvmsg");
	for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
		bool is_v4 = part->cmsg_level == IPPROTO_IP;

		if (part->cmsg_type == (is_v4 ? IP_TTL : IPV6_HOPLIMIT))
			memcpy(&seen.hops, CMSG_DATA(part), sizeof(int));
		else if (is_v4 && part->cmsg_type == IP_TOS)
			seen.traffic_class = *CMSG_DATA(part);
		else if (!is_v4 && part->cmsg_type == IPV6_TCLASS)
			memcpy(&seen.traffic_class, CMSG_DATA(part), sizeof(int));
		else if (is_v4 && part->cmsg_type == IP_PKTINFO)
			seen.is_to_loopback =
				((struct in_pktinfo *)CMSG_DATA(part))->ipi_addr.s_addr == htonl(0x7f000002);
		else if (!is_v4 && part->cmsg_type == IPV6_PKTINFO)
			seen.is_to_loopback = IN6_IS_ADDR_LOOPBACK(&((struct in6_pktinfo *)CMSG_DATA(part))->ipi6_addr);
	}
	return seen;
}

static struct pair make_curious(const struct subject *subject, int family)
{
	bool is_v4 = family == AF_INET;
	int level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6;
	struct pair pair = make(subject, family, is_v4 ? "0.0.0.0" : "::", is_v4 ? "127.0.0.2" : "::1");

	set(subject, pair.receiver, level, is_v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
	set(subject, pair.receiver, level, is_v4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, 1);
	set(subject, pair.receiver, level, is_v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
	set(subject, pair.sender, level, is_v4 ? IP_TTL : IPV6_UNICAST_HOPS, TTL);
	set(subject, pair.sender, level, is_v4 ? IP_TOS : IPV6_TCLASS, TRAFFIC_CLASS);
	say(subject, &pair, "seen", 4);
	return pair;
}

static void check_curious(const struct subject *subject, const char *what, const struct pair *pair)
{
	const struct seen seen = receive_all(subject, pair->receiver);

	if (seen.hops != TTL || seen.traffic_class != TRAFFIC_CLASS || !seen.is_to_loopback)
		subject_fail(subject, "%s: %d hops, class %#x, to the address: %d", what, seen.hops, seen.traffic_class,
		             seen.is_to_loopback);
}

/* ---- The largest ---- */

static const char *largest(int seed)
{
	static char bytes[LARGEST_BYTES];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 13 + i / 251 + (size_t)seed);
	return bytes;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct pair v4 = make(&subject, AF_INET, "127.0.0.1", "127.0.0.1");
	struct pair v6 = make(&subject, AF_INET6, "::", "::1");
	struct pair mapped = make(&subject, AF_INET6, "::", "::ffff:127.0.0.1");
	struct pair connected = make(&subject, AF_INET, "127.0.0.1", "127.0.0.1");
	struct pair full = make(&subject, AF_INET, "0.0.0.0", "127.0.0.1");
	struct pair curious = make_curious(&subject, AF_INET);
	struct pair curious6 = make_curious(&subject, AF_INET6);

	check(&subject, connect(connected.receiver, (struct sockaddr *)&connected.from, size_of(&connected.from)) == 0,
	      "connect");
	set(&subject, v4.receiver, SOL_SOCKET, SO_PEEK_OFF, PEEK_OFFSET);
	say(&subject, &v4, "first", 5);
	say(&subject, &v4, "", 0);
	say(&subject, &v4, "the third", 9);
	say(&subject, &v6, "by IPv6", 7);
	say(&subject, &mapped, "by IPv4", 7);
	say(&subject, &connected, "from the peer", 13);
	set(&subject, full.receiver, SOL_SOCKET, SO_RCVBUFFORCE, ROOM_BYTES);
	for (int i = 0; i < LARGE_COUNT; i++)
		say(&subject, &full, largest(i), LARGEST_BYTES);

	subject_ready(&subject);

	if (get(v4.receiver, SOL_SOCKET, SO_PEEK_OFF) != PEEK_OFFSET ||
	    get(v6.receiver, SOL_SOCKET, SO_PEEK_OFF) != -1 ||
	    get(full.receiver, SOL_SOCKET, SO_RCVBUF) != 2 * ROOM_BYTES)
		subject_fail(&subject, "peek offsets %d, %d, room %d", get(v4.receiver, SOL_SOCKET, SO_PEEK_OFF),
		             get(v6.receiver, SOL_SOCKET, SO_PEEK_OFF), get(full.receiver, SOL_SOCKET, SO_RCVBUF));
	expect(&subject, "the first", &v4, "first", 5);
	expect(&subject, "one of no bytes", &v4, "", 0);
	expect(&subject, "the third", &v4, "the third", 9);
	talk(&subject, "IPv4", &v4);
	expect(&subject, "IPv6", &v6, "by IPv6", 7);
	talk(&subject, "IPv6", &v6);
	expect(&subject, "mapped", &mapped, "by IPv4", 7);
	talk(&subject, "mapped", &mapped);
	expect(&subject, "connected", &connected, "from the peer", 13);
	talk(&subject, "connected", &connected);
	for (int i = 0; i < LARGE_COUNT; i++)
		expect(&subject, "large", &full, largest(i), LARGEST_BYTES);
	expect_empty(&subject, "large", &full);
	check_curious(&subject, "IPv4", &curious);
	check_curious(&subject, "IPv6", &curious6);
	return subject_pass(&subject);
}
