/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Keys that a TCP socket signs its segments with (TCP_MD5SIG, TCP-AO: RFC 2385, RFC 5925), as BGP daemons do. */
#pragma once

#include "objects/socket.h"

/* An error if it has any. Not while the program is frozen. */
MUST_USE struct error *tcp_keys_check(struct open_files *files, int fd, const union socket_address *own,
                                      const union socket_address *peer);
