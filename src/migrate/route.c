/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <string.h>

#include "migrate/route.h"

static const char scheme[] = "tls://";

bool route_is_tls(const struct route *route)
{
	return strncmp(route->destination, scheme, strlen(scheme)) == 0;
}

struct error *route_connect(const struct route *route, struct channel **ret_channel)
{
	uint8_t key[CHANNEL_KEY_BYTES];

	if (route_is_tls(route)) {
		TRY(channel_read_key(route->key, key));
		return channel_connect_tls(route->destination + strlen(scheme), key, ret_channel);
	}
	const struct ssh_target target = {
		.command = route->ssh,
		.host = route->destination,
		.remote_path = route->remote_path,
		.options = route->remote_options,
	};
	return channel_over_ssh(&target, ret_channel);
}
