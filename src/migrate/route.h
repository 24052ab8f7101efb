/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* How a destination is reached, as the user said it: for the first connection, and for those that settle what was cut. */
#pragma once

#include <stdbool.h>

#include "migrate/channel.h"
#include "util/error.h"

/* All borrowed. */
struct route {
	const char *destination;                        /* [user@]host, or tls://host:port */
	const char *ssh, *remote_path, *remote_options; /* see struct ssh_target */
	const char *key;                                /* a file; for tls:// only */
};

bool route_is_tls(const struct route *route);

MUST_USE struct error *route_connect(const struct route *route, struct channel **ret_channel);
