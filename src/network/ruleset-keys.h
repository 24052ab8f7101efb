/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The sets of a lock's table (see ruleset.h): what their keys look like, and where in a packet the parts stand. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/flow.h"

enum ruleset_set {
	RULESET_CONNECTIONS_IPV4,
	RULESET_CONNECTIONS_IPV6,
	RULESET_LISTENERS_IPV4,
	RULESET_LISTENERS_IPV6,
	RULESET_SET_COUNT,
};

struct header_field {
	uint32_t offset;
	uint32_t size_bytes;
};

static const struct header_field tcp_source_port = {0, 2};
static const struct header_field tcp_destination_port = {2, 2};

struct ruleset_set_layout {
	const char *name;
	sa_family_t family;
	bool is_listeners;
	uint32_t key_bytes;
	uint32_t shown_type; /* for `nft list ruleset` alone: 6 bits for the type of each part */
	struct header_field source, destination;
};

extern const struct ruleset_set_layout ruleset_sets[RULESET_SET_COUNT];

enum { RULESET_KEY_BYTES_MAX = 40 };

enum ruleset_set ruleset_set_of(const struct flow *flow);

/* The key of a flow in its set: local address, remote address, local port, remote port, each in whole words of 4 bytes
 * (as nf_tables' registers are). A listener's has no remote parts. */
void ruleset_key(const struct flow *flow, uint8_t key[RULESET_KEY_BYTES_MAX]);

/* The flow that has that key. */
struct flow ruleset_flow(enum ruleset_set which, const uint8_t *key);
