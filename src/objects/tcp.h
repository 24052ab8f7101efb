/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A TCP connection: reading it out and building it again in repair mode (TCP_REPAIR, Linux 3.5). tcp-stream-INODE.img.
 *
 * Reading puts the socket into repair mode and leaves it there: from then on it sends nothing, not even when it is
 * closed. So a copy that is killed makes no noise; one that is to go on needs tcp_go_on().
 *
 * Building sends nothing, either. What the peer hasn't acknowledged is not put back into the queue, where it would wait
 * for a retransmission timer of one second, but sent by an ordinary send(2) once the network is open: the peer drops
 * what it has already. In the same way a closed half is closed once more. The other half, the end of the peer's
 * stream, can't be set by any call: a segment with the peer's FIN, made here, is sent to ourselves.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "image/store.h"
#include "objects/socket.h"

struct tcp_socket_state {
	uint32_t state;
	uint32_t waiting, backlog; /* of a listener: connections that are not accepted yet, and how many may be */
	bool was_connected;        /* a segment has come in */
	/* As they were agreed upon when the connection was made: TCPI_OPT_* of linux/tcp.h. */
	uint8_t options, send_scale, receive_scale;
};

/* Is it a connection in this state, with sequence numbers? See tcp(7) and netinet/tcp.h for the numbers. */
bool tcp_is_connection(uint32_t state);

MUST_USE struct error *tcp_state(int fd, struct tcp_socket_state *ret_state);

/* The same. False: it is no TCP socket, or doesn't tell. */
bool tcp_has_state(int fd, struct tcp_socket_state *ret_state);

/* Has anything been said in a connection that is closed now? False: it was never there. */
bool tcp_was_established(int fd);

/* Puts a socket into repair mode. */
MUST_USE struct error *tcp_begin(int fd);

/* Puts the connection into the store, whose state is as it was before tcp_begin(). The socket stays in repair mode, on failure too. Runs frozen. */
MUST_USE struct error *tcp_save(int fd, const struct tcp_socket_state *state, uint64_t inode,
                                struct image_store *store);

/* Is it in repair mode? */
bool tcp_is_held(int fd);

/* Takes a socket out of repair mode: its connection goes on. */
MUST_USE struct error *tcp_go_on(int fd);

/* Makes a new socket this connection. It stays in repair mode. */
MUST_USE struct error *tcp_restore(int fd, uint32_t state, uint64_t inode, const union socket_address *own,
                                   const union socket_address *peer, const struct image_store *store);

/*
 * A connection that has ended and still has a descriptor: what was not read, and its end behind that. It comes back as a
 * connection to ourselves, which nobody can tell, and is reset when the network is open.
 */
MUST_USE struct error *tcp_save_ended(int fd, uint64_t inode, struct image_store *store);
bool tcp_has_ended(uint64_t inode, const struct image_store *store);
MUST_USE struct error *tcp_restore_ended(int fd, uint64_t inode, const union socket_address *own,
                                         const struct image_store *store);
/* is_told: the program knows of the reset already, or there was none. */
MUST_USE struct error *tcp_resume_ended(int fd, uint64_t inode, bool is_told, const struct image_store *store);

/* The network is open: out of repair mode, what the peer may not have is sent, closed halves are closed. */
MUST_USE struct error *tcp_resume(int fd, uint32_t state, uint64_t inode, const struct image_store *store);
