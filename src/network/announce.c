/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Telling the neighbours where an address is now: see address.h. */

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netpacket/packet.h>

#include "network/address.h"
#include "util/alloc.h"

/* RFC 826, for Ethernet and IPv4. */
struct arp_packet {
	struct arphdr header;
	uint8_t sender_link[ETH_ALEN];
	uint8_t sender_ip[4];
	uint8_t target_link[ETH_ALEN];
	uint8_t target_ip[4];
} __attribute__((packed));

/* A packet socket on the interface, and its link-layer address. */
static struct error *open_link(int interface_index, uint16_t protocol, int *ret_fd, struct sockaddr_ll *ret_name)
{
	auto_fd int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_ll name = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = interface_index,
	};
	socklen_t size = sizeof(name);

	if (fd < 0)
		return error_new(errno, "socket(AF_PACKET)");
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0)
		return error_new(errno, "bind(AF_PACKET, interface %d)", interface_index);
	if (getsockname(fd, (struct sockaddr *)&name, &size) != 0)
		return error_new(errno, "getsockname(AF_PACKET, interface %d)", interface_index);
	*ret_name = name;
	*ret_fd = take(fd);
	return NULL;
}

static bool has_ethernet_address(const struct sockaddr_ll *name)
{
	return name->sll_hatype == ARPHRD_ETHER && name->sll_halen == ETH_ALEN;
}

static struct error *send_arp(int fd, const struct sockaddr_ll *from, uint16_t operation, const uint8_t ip[4])
{
	struct sockaddr_ll to = *from;
	struct arp_packet packet = {
		.header =
			{
				.ar_hrd = htons(ARPHRD_ETHER),
				.ar_pro = htons(ETHERTYPE_IP),
				.ar_hln = ETH_ALEN,
				.ar_pln = 4,
				.ar_op = htons(operation),
			},
	};

	memcpy(packet.sender_link, from->sll_addr, ETH_ALEN);
	memcpy(packet.sender_ip, ip, 4);
	memcpy(packet.target_ip, ip, 4);
	memset(to.sll_addr, 0xff, ETH_ALEN);
	memset(packet.target_link, operation == ARPOP_REPLY ? 0xff : 0, ETH_ALEN);
	if (sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return error_new(errno, "sendto(AF_PACKET, gratuitous ARP)");
	return NULL;
}

struct announcer {
	struct interface_address address;
	struct sockaddr_ll link; /* of the interface */
	int fd;                  /* owned: packet socket, or raw one for ICMPv6; -1: there is nobody to tell */
};

static struct error *announce_ipv4(const struct announcer *announcer)
{
	TRY(send_arp(announcer->fd, &announcer->link, ARPOP_REQUEST, announcer->address.ip.bytes));
	return send_arp(announcer->fd, &announcer->link, ARPOP_REPLY, announcer->address.ip.bytes);
}

/* RFC 4861, 7.2.6: to all nodes, with the override flag. The kernel fills in the checksum. */
struct advertisement {
	struct nd_neighbor_advert header;
	struct nd_opt_hdr option;
	uint8_t link[ETH_ALEN];
} __attribute__((packed));

static struct error *send_advertisement(int fd, const struct interface_address *address, const uint8_t *link)
{
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_scope_id = (uint32_t)address->interface_index};
	struct advertisement packet = {
		.header.nd_na_hdr.icmp6_type = ND_NEIGHBOR_ADVERT,
		.option = {.nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1},
	};

	packet.header.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&packet.header.nd_na_target, address->ip.bytes, 16);
	memcpy(packet.link, link, ETH_ALEN);
	inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
	if (sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return error_new(errno, "sendto(ICMPv6, neighbor advertisement)");
	return NULL;
}

static struct error *open_icmpv6(int interface_index, int *ret_fd)
{
	static const int hops = 255; /* receivers demand it: RFC 4861, 7.1.2 */
	auto_fd int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);

	if (fd < 0)
		return error_new(errno, "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)");
	if (setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) != 0 ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &interface_index, sizeof(int)) != 0)
		return error_new(errno, "setsockopt(ICMPv6)");
	*ret_fd = take(fd);
	return NULL;
}

static struct error *announce_ipv6(const struct announcer *announcer)
{
	const struct interface_address *address = &announcer->address;
	struct sockaddr_in6 from = {.sin6_family = AF_INET6, .sin6_scope_id = (uint32_t)address->interface_index};

	memcpy(&from.sin6_addr, address->ip.bytes, 16);
	if (bind(announcer->fd, (struct sockaddr *)&from, sizeof(from)) != 0)
		return error_new(errno, "bind(ICMPv6)");
	return send_advertisement(announcer->fd, address, announcer->link.sll_addr);
}

static struct error *fill(struct announcer *announcer)
{
	bool is_v4 = announcer->address.ip.family == AF_INET;
	int interface_index = announcer->address.interface_index;
	auto_fd int link_fd = -1;

	TRY(open_link(interface_index, is_v4 ? ETHERTYPE_ARP : ETHERTYPE_IPV6, &link_fd, &announcer->link));
	if (!has_ethernet_address(&announcer->link))
		return NULL;
	if (!is_v4)
		return open_icmpv6(interface_index, &announcer->fd);
	announcer->fd = take(link_fd);
	return NULL;
}

struct error *announcer_new(const struct interface_address *address, struct announcer **ret_announcer)
{
	auto_announcer struct announcer *announcer = xalloc(sizeof(*announcer));

	announcer->address = *address;
	announcer->fd = -1;
	TRY(fill(announcer), "announce an address on interface %d", address->interface_index);
	*ret_announcer = take(announcer);
	return NULL;
}

void announcer_free(struct announcer *announcer)
{
	if (!announcer)
		return;
	if (announcer->fd >= 0)
		close(announcer->fd);
	free(announcer);
}

struct error *announcer_send(const struct announcer *announcer)
{
	if (announcer->fd < 0)
		return NULL;
	struct error *error =
		announcer->address.ip.family == AF_INET ? announce_ipv4(announcer) : announce_ipv6(announcer);
	return error_wrap(error, "announce an address on interface %d", announcer->address.interface_index);
}

struct error *address_announce(const struct interface_address *address)
{
	auto_announcer struct announcer *announcer = NULL;

	TRY(announcer_new(address, &announcer));
	return announcer_send(announcer);
}
