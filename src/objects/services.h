/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Services that every host has for itself, at the same place: the journal of systemd and syslog. A program that is
 * connected to one is connected to that of the other host, over there.
 */
#pragma once

#include <sys/un.h>

#include "objects/objects.h"

extern const char journal_path[]; /* of the socket for standard streams: sd_journal_stream_fd(3) */

/* Is what is reached at this path, by a socket of this type, such a service? */
bool service_is_known(const char *path, int type);

/* Where it is on this host: someone listens there. Its path may be another one of the same service. */
MUST_USE struct error *service_find(const char *path, int type, struct sockaddr_un *ret_address);

/* NULL, or why not. Makes a connection, says nothing and closes it. */
MUST_USE struct error *service_check(const char *path, int type);
