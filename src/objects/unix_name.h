/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a socket of unix(7) is bound to: a file, an abstract name.
 *
 * A file is the trap. bind(2) makes it, under the very text that getsockname(2) then gives; but until the program is
 * ours, the old file may not be touched, for clients of the old program come through it. So it is made in a folder
 * beside the old one, which is our root for that moment, and takes the old one's place when the program goes on.
 */
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "objects/objects.h"
#include "sk-unix.pb-c.h"

/* An address: sun_path without more than the kernel counts. */
struct unix_name {
	struct sockaddr_un address;
	socklen_t bytes; /* of address; that of the family alone: no name */
};

enum unix_end { UNIX_OWN, UNIX_PEER };
MUST_USE struct error *unix_name_of(int fd, enum unix_end end, struct unix_name *ret_name);

/* Of sun_path; 0: no name. */
size_t unix_name_bytes(const struct unix_name *name);
bool unix_name_is_path(const struct unix_name *name);
bool unix_name_is_equal(const struct unix_name *one, const struct unix_name *other);

/* From an image. */
MUST_USE struct error *unix_name_from(const ProtobufCBinaryData *bytes, struct unix_name *ret_name);

/* For errors: the path, or @ and the abstract name. The caller frees. */
char *unix_name_text(const struct unix_name *name);

/* The file that a socket is bound to, wherever its name leads by now. The caller frees the path. */
MUST_USE struct error *unix_name_file(int fd, char **ret_path, bool *ret_is_deleted, struct stat *ret_stat);

/* An address that leads to the socket fd, for connect(2) and sendto(2). *ret_place is owned, and needed until then. */
MUST_USE struct error *unix_name_reach(int fd, struct unix_name *ret_address, int *ret_place);

struct unix_binding {
	struct unix_name name;
	const char *path;             /* where its file is to be in the end; NULL: nowhere, it has been deleted */
	const FilePermsEntry *access; /* NULL: not known */
};

/* Binds fd. A file isn't at its path before unix_name_settle(). */
MUST_USE struct error *unix_name_bind(int fd, const struct unix_binding *binding, struct restore_files *restore);

/* The program goes on: the file takes its place. Does nothing for a socket without one. */
MUST_USE struct error *unix_name_settle(int fd);

/* NULL, or why it can't be bound here. Makes nothing. */
MUST_USE struct error *unix_name_verify(const struct unix_binding *binding);
