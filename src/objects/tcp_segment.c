/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "objects/socket.h"
#include "objects/tcp_segment.h"

enum { HEADER_INCLUDED_V6 = 36 /* IPV6_HDRINCL, Linux 4.5 */, HOPS = 64 };

/* What is summed beside the segment: RFC 9293, RFC 8200. Addresses of 4 or 16 bytes. */
struct pseudo {
	const void *from, *to;
	size_t address_bytes;
};

static uint32_t sum(const void *bytes, size_t size_bytes, uint32_t total)
{
	uint16_t word;

	for (size_t i = 0; i + 1 < size_bytes; i += 2) {
		memcpy(&word, (const uint8_t *)bytes + i, sizeof(word));
		total += word;
	}
	return total;
}

static uint16_t checksum(const struct pseudo *pseudo, const struct tcphdr *segment)
{
	uint32_t total = sum(segment, sizeof(*segment), 0);

	total = sum(pseudo->from, pseudo->address_bytes, total);
	total = sum(pseudo->to, pseudo->address_bytes, total);
	total += htons(IPPROTO_TCP) + htons(sizeof(*segment));
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

static struct error *send_raw(int family, const void *packet, size_t size_bytes, union socket_address *to)
{
	auto_fd int raw = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	const int one = 1;

	if (raw < 0)
		return error_new(errno, "socket(SOCK_RAW)");
	if (family == AF_INET6 && setsockopt(raw, IPPROTO_IPV6, HEADER_INCLUDED_V6, &one, sizeof(one)) < 0)
		return error_new(errno, "setsockopt(IPV6_HDRINCL)");
	if (family == AF_INET)
		to->v4.sin_port = 0;
	else
		to->v6.sin6_port = 0;
	if (sendto(raw, packet, size_bytes, 0, &to->any, socket_address_bytes(to)) < 0)
		return error_new(errno, "end of the peer's stream: sendto");
	return NULL;
}

static struct error *send_v4(struct in_addr from, struct in_addr to, struct tcphdr *segment)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} packet = {
		.ip = {.version = 4,
	               .ihl = 5,
	               .ttl = HOPS,
	               .protocol = IPPROTO_TCP,
	               .saddr = from.s_addr,
	               .daddr = to.s_addr},
	};
	union socket_address address = {.v4 = {.sin_family = AF_INET, .sin_addr = to}};
	const struct pseudo pseudo = {&from, &to, sizeof(from)};

	/* Length and checksum of the IP header are the kernel's: raw(7). */
	segment->check = checksum(&pseudo, segment);
	packet.ip.tot_len = htons(sizeof(packet));
	packet.tcp = *segment;
	return send_raw(AF_INET, &packet, sizeof(packet), &address);
}

static struct error *send_v6(const struct sockaddr_in6 *from, const struct sockaddr_in6 *to, struct tcphdr *segment)
{
	struct {
		struct ip6_hdr ip;
		struct tcphdr tcp;
	} packet = {0};
	union socket_address address = {.v6 = *to};
	const struct pseudo pseudo = {&from->sin6_addr, &to->sin6_addr, sizeof(from->sin6_addr)};

	segment->check = checksum(&pseudo, segment);
	packet.ip.ip6_flow = htonl(6U << 28);
	packet.ip.ip6_plen = htons(sizeof(*segment));
	packet.ip.ip6_nxt = IPPROTO_TCP;
	packet.ip.ip6_hops = HOPS;
	packet.ip.ip6_src = from->sin6_addr;
	packet.ip.ip6_dst = to->sin6_addr;
	packet.tcp = *segment;
	return send_raw(AF_INET6, &packet, sizeof(packet), &address);
}

static struct in_addr mapped(const struct in6_addr *address)
{
	struct in_addr v4;

	memcpy(&v4, &address->s6_addr[12], sizeof(v4));
	return v4;
}

/* Without ports and checksum. */
static struct error *send_to_ourselves(int fd, struct tcphdr segment)
{
	union socket_address own;
	union socket_address peer;

	TRY(socket_addresses(fd, &own, &peer));
	segment.source = socket_port(&peer);
	segment.dest = socket_port(&own);
	segment.doff = sizeof(segment) / 4;
	if (own.any.sa_family == AF_INET)
		return send_v4(peer.v4.sin_addr, own.v4.sin_addr, &segment);
	if (IN6_IS_ADDR_V4MAPPED(&own.v6.sin6_addr))
		return send_v4(mapped(&peer.v6.sin6_addr), mapped(&own.v6.sin6_addr), &segment);
	return send_v6(&peer.v6, &own.v6, &segment);
}

struct error *tcp_segment_send_end(int fd, uint32_t sequence, uint32_t acknowledged, uint32_t window)
{
	return send_to_ourselves(fd, (struct tcphdr){
					     .seq = htonl(sequence),
					     .ack_seq = htonl(acknowledged),
					     .fin = 1,
					     .ack = 1,
					     .window = htons(window > UINT16_MAX ? UINT16_MAX : (uint16_t)window),
				     });
}

struct error *tcp_segment_send_reset(int fd, uint32_t sequence)
{
	return send_to_ourselves(fd, (struct tcphdr){.seq = htonl(sequence), .rst = 1});
}
