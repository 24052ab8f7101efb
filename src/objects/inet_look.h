/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A TCP or UDP socket that is looked at through a copy of its descriptor: where it stands, and what keeps it from being
 * carried. Some of that comes and goes while the program runs, so it is asked once more when it stands still.
 */
#pragma once

#include "objects/socket_options.h"
#include "objects/tcp.h"

struct inet_look {
	int fd; /* borrowed */
	struct socket_kind kind;
	struct tcp_socket_state tcp; /* of UDP: CLOSE, or 1 where it is connected */
	union socket_address own, peer;
};

/* Of TCP, multipath or not. */
bool inet_is_tcp_protocol(uint32_t protocol);

MUST_USE struct error *inet_look_at(const struct open_file *file, struct inet_look *look);

bool inet_look_is_tcp(const struct inet_look *look);
bool inet_look_is_connection(const struct inet_look *look);

/* An error waits in it that the program hasn't been told. */
bool inet_look_has_failed(const struct inet_look *look);

/* Has been connected, and knows that it has ended. */
bool inet_look_has_ended(const struct inet_look *look);

/* What keeps it from being carried: before the freeze; what can have come about since then. */
MUST_USE struct error *inet_look_check(const struct open_file *file, const struct inet_look *look);
MUST_USE struct error *inet_look_check_again(const struct inet_look *look);

/* "ADDRESS:PORT". The caller frees. */
char *inet_address_text(const union socket_address *address);
