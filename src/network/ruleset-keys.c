/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <string.h>

#include "network/ruleset-keys.h"

/* nft's own numbers: ipv4_addr 7, ipv6_addr 8, inet_service 13. */
#define SHOWN_CONNECTION(address) (((((address) << 6 | (address)) << 6) | 13) << 6 | 13)
#define SHOWN_LISTENER(address) ((address) << 6 | 13)

const struct ruleset_set_layout ruleset_sets[RULESET_SET_COUNT] = {
	[RULESET_CONNECTIONS_IPV4] = {"connections4", AF_INET, false, 16, SHOWN_CONNECTION(7), {12, 4}, {16, 4}},
	[RULESET_CONNECTIONS_IPV6] = {"connections6", AF_INET6, false, 40, SHOWN_CONNECTION(8), {8, 16}, {24, 16}},
	[RULESET_LISTENERS_IPV4] = {"listeners4", AF_INET, true, 8, SHOWN_LISTENER(7), {12, 4}, {16, 4}},
	[RULESET_LISTENERS_IPV6] = {"listeners6", AF_INET6, true, 20, SHOWN_LISTENER(8), {8, 16}, {24, 16}},
};

enum ruleset_set ruleset_set_of(const struct flow *flow)
{
	if (flow->family == AF_INET)
		return flow->is_listener ? RULESET_LISTENERS_IPV4 : RULESET_CONNECTIONS_IPV4;
	return flow->is_listener ? RULESET_LISTENERS_IPV6 : RULESET_CONNECTIONS_IPV6;
}

void ruleset_key(const struct flow *flow, uint8_t key[RULESET_KEY_BYTES_MAX])
{
	size_t address_bytes = flow->family == AF_INET ? 4 : 16;
	uint8_t *to = key;

	memset(key, 0, RULESET_KEY_BYTES_MAX);
	memcpy(to, flow->local_address, address_bytes);
	to += address_bytes;
	if (!flow->is_listener) {
		memcpy(to, flow->remote_address, address_bytes);
		to += address_bytes;
	}
	memcpy(to, &flow->local_port, 2);
	if (!flow->is_listener)
		memcpy(to + 4, &flow->remote_port, 2);
}

struct flow ruleset_flow(enum ruleset_set which, const uint8_t *key)
{
	struct flow flow = {
		.family = ruleset_sets[which].family,
		.is_listener = ruleset_sets[which].is_listeners,
	};
	size_t address_bytes = flow.family == AF_INET ? 4 : 16;

	memcpy(flow.local_address, key, address_bytes);
	key += address_bytes;
	if (!flow.is_listener) {
		memcpy(flow.remote_address, key, address_bytes);
		key += address_bytes;
	}
	memcpy(&flow.local_port, key, 2);
	if (!flow.is_listener)
		memcpy(&flow.remote_port, key + 4, 2);
	return flow;
}
