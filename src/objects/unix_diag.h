/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What sock_diag(7) tells of a socket of unix(7). */
#pragma once

#include "objects/objects.h"

/* States of unix sockets, as sock_diag and the image have them. */
enum unix_state { UNIX_ESTABLISHED = 1, UNIX_CLOSED = 7, UNIX_LISTENING = 10 };

struct unix_diag {
	uint8_t type, state;
	bool has_peer; /* it was connected, whether the other end is still there or not */
	uint32_t peer; /* inode of the other end; 0: closed, or not accepted yet */
	uint8_t shut;  /* 1: for reading, 2: for writing */
	bool has_path; /* it is bound to a file */
	uint32_t
		queue; /* of a listener: connections that wait. Else: bytes that wait to be read, or in the first packet */
	uint32_t backlog; /* of a listener */
};

/* The socket with that inode, in the network namespace of this process. files keeps the channel for more questions. */
MUST_USE struct error *unix_diag_ask(struct open_files *files, uint64_t inode, struct unix_diag *ret_diag);

/* Is a socket of this network namespace bound to this file? */
MUST_USE struct error *unix_diag_is_bound(const struct stat *file, bool *ret_is_bound);
