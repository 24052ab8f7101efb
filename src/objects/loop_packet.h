/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Packets from somebody else, sent to ourselves: for what no call can put into a socket. They go by a raw socket through
 * the loopback device, since the destination is local, and arrive before sending ends; so no packet leaves the host.
 */
#pragma once

#include "objects/socket.h"

struct loop_packet {
	union socket_address from, to; /* IPv6 that is mapped is IPv4; without their ports */
	int protocol;                  /* IPPROTO_TCP … */
	uint8_t hops, traffic_class;   /* 0 hops: some */
	uint8_t *segment;              /* borrowed: the protocol's header and data; the checksum is filled in … */
	size_t segment_bytes;
	size_t checksum_at; /* … here */
};

MUST_USE struct error *loop_packet_send(const struct loop_packet *packet);
