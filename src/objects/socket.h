/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What kind of socket a description is, and where it is bound and connected to. */
#pragma once

#include <netinet/in.h>

#include "objects/objects.h"

struct socket_kind {
	int family, type, protocol;
};

/* False where it is no socket, or can't be looked at. */
bool socket_kind_of(const struct open_file *file, struct socket_kind *ret_kind);

/* An error if it belongs to another network namespace than this process: what it is bound to is elsewhere. */
MUST_USE struct error *socket_check_network(int fd);

union socket_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* Own and peer's address of an internet socket; an unconnected one has a peer of port 0. */
MUST_USE struct error *socket_addresses(int fd, union socket_address *ret_own, union socket_address *ret_peer);

/* Port in network order. */
uint16_t socket_port(const union socket_address *address);

/* The address in words of network order, as the image has it: 1 or 4. Returns how many. */
size_t socket_address_words(const union socket_address *address, uint32_t ret_words[4]);

/* The way back. False: not a number of words that the family has. */
bool socket_address_of(uint32_t family, const uint32_t *words, size_t count, uint16_t port, const char *interface,
                       union socket_address *ret_address);
socklen_t socket_address_bytes(const union socket_address *address);
