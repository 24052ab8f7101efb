/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "objects/loop_packet.h"

enum { HEADER_INCLUDED_V6 = 36 /* IPV6_HDRINCL, Linux 4.5 */, HOPS = 64 };

static uint32_t sum(const void *bytes, size_t size_bytes, uint32_t total)
{
	for (size_t i = 0; i < size_bytes; i += 2) {
		uint16_t word = 0; /* an odd byte is followed by 0: RFC 1071 */

		memcpy(&word, (const uint8_t *)bytes + i, i + 1 < size_bytes ? 2 : 1);
		total += word;
		total = (total & 0xffff) + (total >> 16);
	}
	return total;
}

/* With what is summed beside the segment: RFC 9293, RFC 8200. Addresses of 4 or 16 bytes. */
static void fill_checksum(const struct loop_packet *packet, const void *from, const void *to, size_t address_bytes)
{
	uint32_t total = htons((uint16_t)packet->protocol) + htons((uint16_t)packet->segment_bytes);

	memset(&packet->segment[packet->checksum_at], 0, sizeof(uint16_t));
	total = sum(from, address_bytes, total);
	total = sum(to, address_bytes, total);
	total = sum(packet->segment, packet->segment_bytes, total);
	uint16_t checksum = (uint16_t)~total;
	if (checksum == 0) /* of UDP that means that there is none, and to all others it is the same: RFC 768 */
		checksum = UINT16_MAX;
	memcpy(&packet->segment[packet->checksum_at], &checksum, sizeof(checksum));
}

static struct error *send_raw(const struct loop_packet *packet, const void *header, size_t header_bytes,
                              const union socket_address *to)
{
	auto_fd int raw = socket(to->any.sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	struct iovec parts[] = {{(void *)(uintptr_t)header, header_bytes}, {packet->segment, packet->segment_bytes}};
	const struct msghdr message = {
		.msg_name = (void *)(uintptr_t)to,
		.msg_namelen = socket_address_bytes(to),
		.msg_iov = parts,
		.msg_iovlen = 2,
	};
	const int one = 1;

	if (raw < 0)
		return error_new(errno, "socket(SOCK_RAW)");
	if (to->any.sa_family == AF_INET6 && setsockopt(raw, IPPROTO_IPV6, HEADER_INCLUDED_V6, &one, sizeof(one)) < 0)
		return error_new(errno, "setsockopt(IPV6_HDRINCL)");
	if (sendmsg(raw, &message, 0) < 0)
		return error_new(errno, "packet to ourselves: sendmsg");
	return NULL;
}

static struct error *send_v4(const struct loop_packet *packet, struct in_addr from, struct in_addr to)
{
	/* Length and checksum of the IP header are the kernel's: raw(7). */
	const struct iphdr header = {
		.version = 4,
		.ihl = 5,
		.tos = packet->traffic_class,
		.ttl = packet->hops ? packet->hops : HOPS,
		.protocol = (uint8_t)packet->protocol,
		.saddr = from.s_addr,
		.daddr = to.s_addr,
	};
	const union socket_address address = {.v4 = {.sin_family = AF_INET, .sin_addr = to}};

	fill_checksum(packet, &from, &to, sizeof(from));
	return send_raw(packet, &header, sizeof(header), &address);
}

static struct error *send_v6(const struct loop_packet *packet)
{
	struct ip6_hdr header = {.ip6_src = packet->from.v6.sin6_addr, .ip6_dst = packet->to.v6.sin6_addr};
	union socket_address address = packet->to;

	address.v6.sin6_port = 0;
	header.ip6_flow = htonl(6U << 28 | (uint32_t)packet->traffic_class << 20);
	header.ip6_plen = htons((uint16_t)packet->segment_bytes);
	header.ip6_nxt = (uint8_t)packet->protocol;
	header.ip6_hops = packet->hops ? packet->hops : HOPS;
	fill_checksum(packet, &header.ip6_src, &header.ip6_dst, sizeof(header.ip6_src));
	return send_raw(packet, &header, sizeof(header), &address);
}

static struct in_addr mapped(const struct in6_addr *address)
{
	struct in_addr v4;

	memcpy(&v4, &address->s6_addr[12], sizeof(v4));
	return v4;
}

struct error *loop_packet_send(const struct loop_packet *packet)
{
	const union socket_address *from = &packet->from;
	const union socket_address *to = &packet->to;

	if (to->any.sa_family == AF_INET)
		return send_v4(packet, from->v4.sin_addr, to->v4.sin_addr);
	if (IN6_IS_ADDR_V4MAPPED(&to->v6.sin6_addr))
		return send_v4(packet, mapped(&from->v6.sin6_addr), mapped(&to->v6.sin6_addr));
	return send_v6(packet);
}
