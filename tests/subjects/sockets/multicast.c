/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Multicast from the inside: groups of both families, all sources but some, some sources alone, a group of IPv4 that an
 * IPv6 socket is a member of, and the interface that packets for groups leave by. What is sent to a group arrives, and
 * what is sent to another one doesn't.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "sockets.h"

enum { WAIT_MS = 10000, SOURCES = 3 };

/* IPV6_MULTICAST_ALL of linux/in6.h, which can't be included beside netinet/in.h. */
enum { MULTICAST_ALL_V6 = 29 };

static unsigned interface_number(void)
{
	unsigned number = if_nametoindex("eth0");

	return number ? number : if_nametoindex("lo");
}

static struct sockaddr_storage address_of(const char *text)
{
	struct sockaddr_storage address = {.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET};

	if (address.ss_family == AF_INET)
		inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr);
	else
		inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr);
	return address;
}

static int level_of(const struct sockaddr_storage *group)
{
	return group->ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

static void join(const struct subject *subject, int fd, const char *group, unsigned interface)
{
	const struct group_req request = {interface, address_of(group)};

	check(subject, setsockopt(fd, level_of(&request.gr_group), MCAST_JOIN_GROUP, &request, sizeof(request)) == 0,
	      group);
}

static void source(const struct subject *subject, int fd, int how, const char *group, const char *from)
{
	const struct group_source_req request = {interface_number(), address_of(group), address_of(from)};

	check(subject, setsockopt(fd, level_of(&request.gsr_group), how, &request, sizeof(request)) == 0, from);
}

/* -1: not a member; else how many sources, with whether these are the only ones. */
static int sources_of(int fd, const char *group, unsigned interface, int *ret_is_include, char ret_first[64])
{
	char bytes[GROUP_FILTER_SIZE(SOURCES)] = {0};
	struct group_filter *filter = (struct group_filter *)bytes;
	socklen_t size = sizeof(bytes);

	filter->gf_interface = interface;
	filter->gf_group = address_of(group);
	filter->gf_numsrc = SOURCES;
	if (getsockopt(fd, level_of(&filter->gf_group), MCAST_MSFILTER, filter, &size) != 0)
		return -1;
	*ret_is_include = filter->gf_fmode == MCAST_INCLUDE;
	ret_first[0] = '\0';
	if (filter->gf_numsrc > 0 && filter->gf_group.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&filter->gf_slist[0])->sin_addr, ret_first, 64);
	else if (filter->gf_numsrc > 0)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&filter->gf_slist[0])->sin6_addr, ret_first, 64);
	return (int)filter->gf_numsrc;
}

static void expect(const struct subject *subject, int fd, const char *group, int count, int is_include,
                   const char *first)
{
	char found[64] = "";
	int found_include = 0;
	int found_count = sources_of(fd, group, interface_number(), &found_include, found);

	if (found_count != count || (count >= 0 && (found_include != is_include || strcmp(found, first) != 0)))
		subject_fail(subject, "%s: %d sources, alone: %d, the first is %s", group, found_count, found_include,
		             found);
}

static int make_member(const struct subject *subject, int family)
{
	const struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
	int fd = socket(family, SOCK_DGRAM, 0);

	check(subject, bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0, "bind");
	if (family == AF_INET6)
		set(subject, fd, IPPROTO_IPV6, MULTICAST_ALL_V6, 0);
	set(subject, fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	return fd;
}

/* A datagram to the group, which is seen if the member is one of it: at once where both are on lo. */
static int hears(const struct subject *subject, int sender, int member, const char *group, int timeout_ms)
{
	struct sockaddr_storage to = address_of(group);
	struct sockaddr_storage own = {0};
	socklen_t size = sizeof(own);
	struct pollfd wait = {.fd = member, .events = POLLIN};
	char byte;

	check(subject, getsockname(member, (struct sockaddr *)&own, &size) == 0, "getsockname");
	/* The port is at the same place in both. */
	memcpy(&((struct sockaddr_in *)&to)->sin_port, &((struct sockaddr_in *)&own)->sin_port, sizeof(in_port_t));
	check(subject, sendto(sender, "m", 1, 0, (struct sockaddr *)&to, size) == 1, group);
	return poll(&wait, 1, timeout_ms) == 1 && recv(member, &byte, 1, 0) == 1;
}

static void check_memberships(const struct subject *subject, int v4, int v6)
{
	expect(subject, v4, "239.77.1.1", 0, 0, "");
	expect(subject, v4, "239.77.1.2", 2, 0, "10.1.2.3");
	expect(subject, v4, "232.77.1.3", 1, 1, "10.3.2.1");
	expect(subject, v4, "239.77.1.4", -1, 0, "");
	expect(subject, v6, "ff15::77:1", 0, 0, "");
	expect(subject, v6, "ff15::77:2", 1, 0, "2001:db8::9");
	expect(subject, v6, "ff35::77:3", 1, 1, "2001:db8::8");
	expect(subject, v6, "239.77.1.4", 0, 0, "");
	expect(subject, v6, "239.77.1.1", -1, 0, "");
}

static void check_sending(const struct subject *subject, int sender, int sender6)
{
	struct in_addr address = {0};
	socklen_t size = sizeof(address);
	unsigned number = interface_number();

	getsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &address, &size);
	if (address.s_addr != htonl(INADDR_LOOPBACK))
		subject_fail(subject, "IP_MULTICAST_IF: %#x", address.s_addr);
	if (get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_IF) != (int)number ||
	    get(sender6, IPPROTO_IPV6, IPV6_UNICAST_IF) != (int)htonl(number) ||
	    get(sender, IPPROTO_IP, IP_UNICAST_IF) != (int)htonl(number))
		subject_fail(subject, "interfaces %d, %#x, %#x, not %u", get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_IF),
		             get(sender6, IPPROTO_IPV6, IPV6_UNICAST_IF), get(sender, IPPROTO_IP, IP_UNICAST_IF),
		             number);
	if (get(sender, IPPROTO_IP, IP_MULTICAST_TTL) != 7 || get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS) != 9)
		subject_fail(subject, "hops %d, %d", get(sender, IPPROTO_IP, IP_MULTICAST_TTL),
		             get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS));
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
	unsigned number = interface_number();
	int v4 = make_member(&subject, AF_INET);
	int v6 = make_member(&subject, AF_INET6);
	int sender = socket(AF_INET, SOCK_DGRAM, 0);
	int sender6 = socket(AF_INET6, SOCK_DGRAM, 0);

	join(&subject, v4, "239.77.1.1", number);
	if (number != if_nametoindex("lo"))
		join(&subject, v4, "239.77.1.1", if_nametoindex("lo"));
	join(&subject, v4, "239.77.1.2", number);
	source(&subject, v4, MCAST_BLOCK_SOURCE, "239.77.1.2", "10.1.2.3");
	source(&subject, v4, MCAST_BLOCK_SOURCE, "239.77.1.2", "10.1.2.4");
	source(&subject, v4, MCAST_JOIN_SOURCE_GROUP, "232.77.1.3", "10.3.2.1");
	join(&subject, v6, "ff15::77:1", number);
	join(&subject, v6, "ff15::77:2", number);
	source(&subject, v6, MCAST_BLOCK_SOURCE, "ff15::77:2", "2001:db8::9");
	source(&subject, v6, MCAST_JOIN_SOURCE_GROUP, "ff35::77:3", "2001:db8::8");
	join(&subject, v6, "239.77.1.4", number);
	check(&subject, setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof(loopback)) == 0,
	      "send by lo");
	set(&subject, sender6, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)number);
	set(&subject, sender6, IPPROTO_IPV6, IPV6_UNICAST_IF, (int)htonl(number));
	set(&subject, sender, IPPROTO_IP, IP_UNICAST_IF, (int)htonl(number));
	set(&subject, sender, IPPROTO_IP, IP_MULTICAST_TTL, 7);
	set(&subject, sender6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 9);

	subject_ready(&subject);

	check_memberships(&subject, v4, v6);
	check_sending(&subject, sender, sender6);
	if (!hears(&subject, sender, v4, "239.77.1.1", WAIT_MS) || hears(&subject, sender, v4, "239.77.1.99", 0))
		subject_fail(&subject, "IPv4 is heard, or isn't");
	/* lo has no route for groups of IPv6. */
	if (interface_number() != if_nametoindex("lo") && !hears(&subject, sender6, v6, "ff15::77:1", WAIT_MS))
		subject_fail(&subject, "IPv6 isn't heard");
	return subject_pass(&subject);
}
