/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The options of sockets: those of sk_opts_entry, and in an entry of sockets.godwit all others that getsockopt(2) tells
 * and setsockopt(2) takes, with the owner of the socket.
 *
 * Saving runs frozen, on a copy of the descriptor. What has the value of a new socket isn't stored.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "godwit-sockets.pb-c.h"
#include "objects/objects.h"
#include "sk-opts.pb-c.h"

/* Which options a socket has: one family, one type. */
enum socket_traits {
	SOCKET_UNIX = 1 << 0,
	SOCKET_IPV4 = 1 << 1,
	SOCKET_IPV6 = 1 << 2,
	SOCKET_TCP = 1 << 3,
	SOCKET_UDP = 1 << 4,
	SOCKET_CONNECTED = 1 << 5, /* TCP: what the kernel adapts by itself isn't an option any more */
	SOCKET_NETLINK = 1 << 6,
	SOCKET_LOCAL = SOCKET_UNIX | SOCKET_NETLINK, /* either of them: not of the internet */
};

/* sk_opts_entry with what it points to. */
struct socket_options {
	SkOptsEntry entry;
	char device[16];  /* IF_NAMESIZE */
	uint64_t *filter; /* owned */
};

void socket_options_free(struct socket_options *options);
#define auto_socket_options __attribute__((cleanup(socket_options_free)))

/* Fills options, which is zeroed. They point into themselves: not to be copied. */
MUST_USE struct error *socket_options_save(int fd, enum socket_traits traits, struct socket_options *options);

/* The values of the others, those that are worth saving. */
enum { SOCKET_EXTRAS_MAX = 144, SOCKET_EXTRAS_BYTES = 2304 };
struct socket_extras {
	uint8_t values[SOCKET_EXTRAS_BYTES];     /* one behind the other */
	uint16_t sizes_bytes[SOCKET_EXTRAS_MAX]; /* 0: isn't worth it */
};
void socket_extras_read(int fd, enum socket_traits traits, struct socket_extras *ret_extras);

/* Puts them into sockets.godwit, with what entry (initialized) says besides. */
void socket_extras_put(const struct socket_extras *extras, const struct open_file *file, GodwitSocketEntry *entry,
                       struct image_store *store);

/* Both. */
MUST_USE struct error *socket_extras_save(int fd, const struct open_file *file, enum socket_traits traits,
                                          GodwitSocketEntry *entry, struct image_store *store);

/*
 * For a new socket, before bind(2): all but what must wait for socket_options_finish(). The sizes of the buffers are
 * set, but not locked, so that what has waited in queues fits again. reuseaddr is left alone.
 */
MUST_USE struct error *socket_options_restore(int fd, const SkOptsEntry *entry);

/* What sockets.godwit says of a socket; NULL: nothing. The caller frees. */
MUST_USE struct error *socket_extras_find(struct restore_files *restore, uint32_t id, GodwitSocketEntry **ret_extras);
/* Does it say that the end of the connection (ECONNRESET) waits to be told? */
bool socket_extras_is_reset(const struct image_store *store, uint32_t id);
void socket_extras_free(GodwitSocketEntry *extras);
DEFINE_OWNED(GodwitSocketEntry *, socket_extras_free)
#define auto_socket_extras AUTO(socket_extras_free)

/* Owner and options for a new socket, before bind(2). extras may be NULL. */
MUST_USE struct error *socket_extras_restore(int fd, const GodwitSocketEntry *extras, enum socket_traits traits);

/* After socket_options_finish(): what would be in the way before. IP_TRANSPARENT is as in extras then, else off. */
MUST_USE struct error *socket_extras_finish(int fd, const GodwitSocketEntry *extras, enum socket_traits traits);

/* When the queues are filled: sizes that the program has set stay, others go on adapting; reuseaddr; filters. */
MUST_USE struct error *socket_options_finish(int fd, const SkOptsEntry *entry);

/* Size of the send buffer, who chose the sizes, reuseaddr: what filling queues and repair mode have changed. */
MUST_USE struct error *socket_options_settle(int fd, const SkOptsEntry *entry);

/* setsockopt(2) with an int. what names the option in the error. */
MUST_USE struct error *socket_set(int fd, int level, int name, int value, const char *what);

/* SO_PEEK_OFF: where the next MSG_PEEK looks; less than 0: at the beginning. */
MUST_USE struct error *socket_peek_offset(int fd, int *ret_offset);
MUST_USE struct error *socket_set_peek_offset(int fd, int offset);

/* getsockopt(2) of an int: 0 or a negative errno. */
int socket_get(int fd, int level, int name, int *ret_value);
