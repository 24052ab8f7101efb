/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * UNIX sockets whose other end is in another process, which stays: the place for those that can be connected again to
 * the same service over there (standard streams to the journal, /dev/log).
 *
 * unixsk.c calls these for every socket that has a living peer outside of the program, and knows nothing else of them.
 * What isn't known here is refused before the freeze, by the name of the process.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/objects.h"
#include "objects/unix_diag.h"

/* Such a socket. All borrowed. */
struct unix_outside {
	const struct open_file *file;
	const struct unix_diag *diag;
	int fd; /* a copy of it */
};

/* NULL: it can be connected again. Else why not, and who has the other end. Not while the program is frozen. */
MUST_USE struct error *unix_outside_check(const struct unix_outside *socket);

/*
 * Fills what tells the two apart later: entry->uflags, fields of extras. entry has all that any socket has already; what
 * it points to must live until it has been put into the image. Runs frozen.
 */
MUST_USE struct error *unix_outside_save(const struct unix_outside *socket, UnixSkEntry *entry,
                                         GodwitSocketEntry *extras);

/* Is this entry one that unix_outside_save() has filled? */
bool unix_outside_is(const UnixSkEntry *entry);

/* Makes the socket and connects it; options, shutdown and what else any socket has are the caller's. */
MUST_USE struct error *unix_outside_restore(const UnixSkEntry *entry, const GodwitSocketEntry *extras,
                                            struct restore_files *restore, int *ret_fd);
