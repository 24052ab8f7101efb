/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "objects/multicast.h"
#include "objects/socket_options.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* The kernel's default is 10, or 64 for IPv6: igmp_max_msf of ip-sysctl.rst. */
enum { SOURCES_MAX = 4096 };

struct group {
	struct sockaddr_storage address;
	uint32_t interface;
};

struct multicast_groups {
	struct group *list; /* owned */
	size_t count;
};

void multicast_groups_free(struct multicast_groups *groups)
{
	if (groups)
		free(groups->list);
	free(groups);
}

/* ---- Addresses ---- */

static size_t address_bytes(int family)
{
	return family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

static void *address_in(struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		return &((struct sockaddr_in *)(void *)address)->sin_addr;
	return &((struct sockaddr_in6 *)(void *)address)->sin6_addr;
}

static struct sockaddr_storage address_of(int family, const void *bytes)
{
	struct sockaddr_storage address = {.ss_family = (sa_family_t)family};

	memcpy(address_in(&address), bytes, address_bytes(family));
	return address;
}

/* Groups of IPv4 are joined on the level of IPv4 by sockets of both families. */
static int level_of(const struct sockaddr_storage *group)
{
	return group->ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

/* ---- The groups of this host ---- */

static void add(struct multicast_groups *groups, int family, const void *bytes, uint32_t interface)
{
	groups->list = xrealloc(groups->list, (groups->count + 1) * sizeof(*groups->list));
	groups->list[groups->count++] = (struct group){.address = address_of(family, bytes), .interface = interface};
}

/* "2\teth0      :     1      V3", and for each group of it "\t\t\t\t010000E0     1 0:00000000\t\t0". */
static void take_v4_line(struct multicast_groups *groups, const char *line, uint32_t *interface)
{
	uint32_t address;

	/* NOLINTBEGIN(cert-err34-c): numbers that the kernel has printed */
	if (line[0] != '\t') {
		if (sscanf(line, "%u", interface) != 1)
			*interface = 0; /* the heading */
		return;
	}
	if (sscanf(line, " %8x", &address) == 1)
		add(groups, AF_INET, &address, *interface);
	/* NOLINTEND(cert-err34-c) */
}

/* "2    eth0            ff020000000000000000000000000001     1 0000000C 0" */
static void take_v6_line(struct multicast_groups *groups, const char *line, uint32_t *interface)
{
	struct in6_addr address;
	char digits[33];

	/* NOLINTNEXTLINE(cert-err34-c): numbers that the kernel has printed */
	if (sscanf(line, "%u %*s %32[0-9a-f]", interface, digits) != 2)
		return;
	for (size_t i = 0; i < sizeof(address); i++)
		/* NOLINTNEXTLINE(cert-err34-c): two digits */
		if (sscanf(digits + 2 * i, "%2hhx", &address.s6_addr[i]) != 1)
			return;
	add(groups, AF_INET6, &address, *interface);
}

/* Files that aren't there (a kernel without IPv6) have no groups in them. */
static void read_groups(struct multicast_groups *groups, const char *name,
                        void (*take_line)(struct multicast_groups *groups, const char *line, uint32_t *interface))
{
	auto_free char *text = NULL;
	uint32_t interface = 0;

	if (procfs_read(getpid(), name, &text, NULL) < 0)
		return;
	for (const char *line = text; *line;) {
		take_line(groups, line, &interface);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
}

static const struct multicast_groups *groups_of_host(const struct open_file *file)
{
	if (!file->all->groups) {
		file->all->groups = xalloc(sizeof(*file->all->groups));
		read_groups(file->all->groups, "net/igmp", take_v4_line);
		read_groups(file->all->groups, "net/igmp6", take_v6_line);
	}
	return file->all->groups;
}

/* ---- Saving ---- */

/* NULL with errno 0: not a member. The caller frees. */
static struct group_filter *ask(int fd, const struct group *group, size_t room)
{
	socklen_t size = (socklen_t)GROUP_FILTER_SIZE(room);
	auto_free struct group_filter *filter = xalloc(size);

	filter->gf_interface = group->interface;
	filter->gf_group = group->address;
	filter->gf_numsrc = (uint32_t)room;
	if (getsockopt(fd, level_of(&group->address), MCAST_MSFILTER, filter, &size) == 0)
		return take(filter);
	/* Neither is a socket of IPv4 a member of a group of IPv6. */
	if (errno == EADDRNOTAVAIL || errno == ENOPROTOOPT || errno == EOPNOTSUPP)
		errno = 0;
	return NULL;
}

static struct error *ask_all(int fd, const struct group *group, struct group_filter **ret_filter)
{
	auto_free struct group_filter *filter = ask(fd, group, 0);

	if (filter && filter->gf_numsrc > 0) {
		size_t count = filter->gf_numsrc;

		if (count > SOURCES_MAX)
			return error_new(EFBIG, "multicast group with %zu sources", count);
		free(filter);
		filter = ask(fd, group, count);
	}
	if (!filter && errno)
		return error_new(errno, "getsockopt(MCAST_MSFILTER)");
	*ret_filter = take(filter);
	return NULL;
}

static void put_bytes(ProtobufCBinaryData *ret_data, struct sockaddr_storage *address)
{
	ret_data->len = address_bytes(address->ss_family);
	ret_data->data = xalloc(ret_data->len);
	memcpy(ret_data->data, address_in(address), ret_data->len);
}

static struct error *put(struct group_filter *filter, GodwitSocketEntry *extras)
{
	char interface[IF_NAMESIZE];

	if (!if_indextoname(filter->gf_interface, interface))
		return error_new(errno, "name of interface %u", filter->gf_interface);
	GodwitMembership *membership = xalloc(sizeof(*membership));
	godwit_membership__init(membership);
	membership->interface = xformat("%s", interface);
	membership->has_is_include = true;
	membership->is_include = filter->gf_fmode == MCAST_INCLUDE;
	put_bytes(&membership->group, &filter->gf_group);
	membership->sources = xalloc((filter->gf_numsrc + 1) * sizeof(*membership->sources));
	membership->n_sources = filter->gf_numsrc;
	for (size_t i = 0; i < filter->gf_numsrc; i++)
		put_bytes(&membership->sources[i], &filter->gf_slist[i]);
	extras->memberships = xrealloc(extras->memberships, (extras->n_memberships + 1) * sizeof(GodwitMembership *));
	extras->memberships[extras->n_memberships++] = membership;
	return NULL;
}

static char *interface_of(const struct in_addr *address)
{
	struct ifaddrs *all;
	char *name = NULL;

	if (getifaddrs(&all) < 0)
		return NULL;
	for (const struct ifaddrs *one = all; one && !name; one = one->ifa_next) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)one->ifa_addr;

		if (v4 && v4->sin_family == AF_INET && v4->sin_addr.s_addr == address->s_addr)
			name = xformat("%s", one->ifa_name);
	}
	freeifaddrs(all);
	return name;
}

/* Setting it by an address alone would need that address on the next host before it has moved there. */
static void save_sending(int fd, GodwitSocketEntry *extras)
{
	struct in_addr address = {0};
	socklen_t size = sizeof(address);

	if (getsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &address, &size) < 0 || address.s_addr == 0)
		return;
	extras->has_multicast_address = true;
	extras->multicast_address = address.s_addr;
	extras->multicast_interface = interface_of(&address);
}

struct error *multicast_save(const struct open_file *file, int fd, GodwitSocketEntry *extras)
{
	const struct multicast_groups *groups = groups_of_host(file);

	save_sending(fd, extras);
	for (size_t i = 0; i < groups->count; i++) {
		auto_free struct group_filter *filter = NULL;

		TRY(ask_all(fd, &groups->list[i], &filter));
		if (filter)
			TRY(put(filter, extras));
	}
	return NULL;
}

static void membership_free(GodwitMembership *membership)
{
	for (size_t i = 0; i < membership->n_sources; i++)
		free(membership->sources[i].data);
	free(membership->sources);
	free(membership->group.data);
	free(membership->interface);
	free(membership);
}

void multicast_free(GodwitSocketEntry *extras)
{
	for (size_t i = 0; i < extras->n_memberships; i++)
		membership_free(extras->memberships[i]);
	free(take(extras->memberships));
	extras->n_memberships = 0;
	free(take(extras->multicast_interface));
}

/* ---- Restoring ---- */

static struct error *interface_index(const char *name, uint32_t *ret_index)
{
	*ret_index = if_nametoindex(name);
	if (*ret_index == 0)
		return error_hint(error_new(errno, "interface %.*s", IF_NAMESIZE, name),
		                  "the program uses an interface of this name, for multicast");
	return NULL;
}

static bool is_address(const ProtobufCBinaryData *data, size_t size_bytes)
{
	return data->len == size_bytes &&
	       (size_bytes == sizeof(struct in_addr) || size_bytes == sizeof(struct in6_addr));
}

static struct error *join(int fd, const GodwitMembership *membership, const struct group *group)
{
	const struct group_req whole = {.gr_interface = group->interface, .gr_group = group->address};
	const int each = membership->is_include ? MCAST_JOIN_SOURCE_GROUP : MCAST_BLOCK_SOURCE;
	const int level = level_of(&group->address);

	if (!membership->is_include && setsockopt(fd, level, MCAST_JOIN_GROUP, &whole, sizeof(whole)) < 0)
		return error_new(errno, "setsockopt(MCAST_JOIN_GROUP)");
	for (size_t i = 0; i < membership->n_sources; i++) {
		struct group_source_req one = {.gsr_interface = group->interface, .gsr_group = group->address};

		if (!is_address(&membership->sources[i], membership->group.len))
			return error_new(EBADMSG, "source of %zu bytes", membership->sources[i].len);
		one.gsr_source = address_of(group->address.ss_family, membership->sources[i].data);
		if (setsockopt(fd, level, each, &one, sizeof(one)) < 0)
			return error_new(errno, "setsockopt(%s)",
			                 membership->is_include ? "MCAST_JOIN_SOURCE_GROUP" : "MCAST_BLOCK_SOURCE");
	}
	return NULL;
}

static struct error *restore_membership(int fd, const GodwitMembership *membership)
{
	int family = membership->group.len == sizeof(struct in_addr) ? AF_INET : AF_INET6;
	char text[INET6_ADDRSTRLEN] = "?";
	struct group group;

	if (!is_address(&membership->group, address_bytes(family)))
		return error_new(EBADMSG, "multicast group of %zu bytes", membership->group.len);
	TRY(interface_index(membership->interface, &group.interface));
	group.address = address_of(family, membership->group.data);
	inet_ntop(family, membership->group.data, text, sizeof(text));
	return error_wrap(join(fd, membership, &group), "group %s on %.*s", text, IF_NAMESIZE, membership->interface);
}

static struct error *restore_sending(int fd, const GodwitSocketEntry *extras)
{
	struct ip_mreqn request = {.imr_address = {.s_addr = extras->multicast_address}};
	uint32_t interface = 0;

	if (!extras->has_multicast_address)
		return NULL;
	if (extras->multicast_interface)
		TRY(interface_index(extras->multicast_interface, &interface));
	request.imr_ifindex = (int)interface;
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof(request)) < 0)
		return error_new(errno, "setsockopt(IP_MULTICAST_IF)");
	return NULL;
}

struct error *multicast_restore(int fd, const GodwitSocketEntry *extras)
{
	if (!extras)
		return NULL;
	TRY(restore_sending(fd, extras));
	for (size_t i = 0; i < extras->n_memberships; i++)
		TRY(restore_membership(fd, extras->memberships[i]));
	return NULL;
}
