/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Calls on UNIX sockets that the kernel remembers the caller of (SO_PEERCRED, SO_PEERGROUPS of unix(7)): made by the
 * task that is restored, as the user that extras tell. Descriptors are ours, before and after.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/unix_name.h"

MUST_USE struct error *unix_make_pair(const struct restore_files *restore, int type, const GodwitSocketEntry *extras,
                                      int ret_fds[2]);
MUST_USE struct error *unix_make_listener(const struct restore_files *restore, int fd, int backlog,
                                          const GodwitSocketEntry *extras);
MUST_USE struct error *unix_make_connection(const struct restore_files *restore, int fd, const struct unix_name *to,
                                            const GodwitSocketEntry *extras);
