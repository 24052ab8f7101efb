/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stddef.h>

#include "objects/loop_packet.h"
#include "objects/tcp_segment.h"

/* Without ports and checksum. */
static struct error *send_to_ourselves(int fd, struct tcphdr segment)
{
	struct loop_packet packet = {
		.protocol = IPPROTO_TCP,
		.segment = (uint8_t *)&segment,
		.segment_bytes = sizeof(segment),
		.checksum_at = offsetof(struct tcphdr, check),
	};

	TRY(socket_addresses(fd, &packet.to, &packet.from));
	segment.source = socket_port(&packet.from);
	segment.dest = socket_port(&packet.to);
	segment.doff = sizeof(segment) / 4;
	return error_wrap(loop_packet_send(&packet), "end of the peer's stream");
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
