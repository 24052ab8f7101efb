/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * UNIX sockets whose other end is in another process, which stays. Those that are connected to a service that every host
 * has for itself (services.h) are connected to that of the other host: standard streams to the journal, syslog.
 *
 * unixsk.c calls these for every socket that has a living peer outside of the program, and knows nothing else of them.
 * What isn't known here is refused before the freeze, by the name of the process.
 *
 * Trap: a socket that is connected again begins anew. What the service has not read yet of the old one it will read, for
 * that is in a queue of its own; but half a line that was written to the journal becomes a line.
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

/* Path of the service that it is connected to; NULL: it is none that every host has. The caller frees. */
char *unix_outside_service(const struct unix_outside *socket);

/* What extras point to then. */
struct unix_outside_parts {
	char *service;                /* owned */
	GodwitJournalStream *journal; /* owned */
};
void unix_outside_parts_free(struct unix_outside_parts *parts);

/* Fills what tells the two apart later: entry->uflags, fields of extras. entry has all that any socket has already; what
 * it points to must live until it has been put into the image. Runs frozen. */
MUST_USE struct error *unix_outside_save(const struct unix_outside *socket, UnixSkEntry *entry,
                                         GodwitSocketEntry *extras, struct unix_outside_parts *parts);

/* What else such an entry has, whose extras tell a service. */
void unix_outside_mark(UnixSkEntry *entry);

/* Is this entry one that unix_outside_save() has filled? */
bool unix_outside_is(const UnixSkEntry *entry);

/* Is the service here? Makes nothing that stays. */
MUST_USE struct error *unix_outside_verify(const UnixSkEntry *entry, const GodwitSocketEntry *extras);

/* Makes the socket and connects it; options, shutdown and what else any socket has are the caller's. */
MUST_USE struct error *unix_outside_restore(const UnixSkEntry *entry, const GodwitSocketEntry *extras,
                                            struct restore_files *restore, int *ret_fd);
