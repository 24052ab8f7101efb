/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The two ends of a TCP connection, as they stand in its packets; or the one of a socket that listens. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct flow {
	uint8_t local_address[16]; /* network order; IPv4 in the first 4 bytes. A listener's may be all zeros: any */
	uint8_t remote_address[16];
	uint16_t local_port; /* network order */
	uint16_t remote_port;
	/* AF_INET or AF_INET6, as the packets are: a connection of an IPv6 socket with ::ffff:10.0.0.1 is AF_INET. */
	sa_family_t family;
	bool is_listener; /* no remote end: new connections to the local one */
};
