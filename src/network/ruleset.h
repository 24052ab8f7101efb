/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The nftables table that a network lock consists of, and batches of messages that change it.
 *
 * A table of family inet with four sets: connections and listeners, of IPv4 and IPv6. Its chains hang in prerouting,
 * input and output at priority -300: before conntrack (-200), so that what is dropped leaves no trace there, neither
 * a new entry nor a moved window. Input sees again what prerouting could not tell: the ports of fragments, and
 * addresses behind destination NAT. Of a connection all packets are dropped, of a listener those that begin a
 * connection: SYN without ACK. A handshake under way ends undisturbed.
 *
 * A batch is atomic: the kernel does all of it or nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/flow.h"
#include "util/netlink.h"

struct ruleset_batch;

struct ruleset_batch *ruleset_batch_new(void);
void ruleset_batch_free(struct ruleset_batch *batch);
DEFINE_OWNED(struct ruleset_batch *, ruleset_batch_free)
#define auto_ruleset_batch AUTO(ruleset_batch_free)

/* Kept with the table, for who lists it. */
struct ruleset_note {
	uint64_t namespace_id; /* 0: there is none, or the table isn't ours */
	uint64_t made_s;
};

/*
 * How it is kept: nft(8) reads the user data of all tables as a row of attributes (libnftnl/udata.h), and crashes when they
 * make no sense to it (1.0.6). It leaves those alone whose type it doesn't know.
 */
struct ruleset_user_data {
	uint8_t type;       /* RULESET_NOTE_TYPE: the last that nft will use */
	uint8_t size_bytes; /* of what follows */
	uint8_t note[sizeof(struct ruleset_note)];
};
enum { RULESET_NOTE_TYPE = 0xff };

struct ruleset_table {
	const char *name; /* borrowed */
	struct ruleset_note note;
	bool is_owned; /* goes with the netlink channel that makes it, even if that is killed: Linux 5.12 */
};

/* The whole table with empty sets. A table of that name is replaced. */
void ruleset_add_table(struct ruleset_batch *batch, const struct ruleset_table *table);
void ruleset_delete_table(struct ruleset_batch *batch, const char *table);

/* Flows come into the table's sets or leave them. Those that are there already do no harm; those that leave must be. */
void ruleset_add_flows(struct ruleset_batch *batch, const char *table, const struct flow *flows, size_t count);
void ruleset_delete_flows(struct ruleset_batch *batch, const char *table, const struct flow *flows, size_t count);

/* Empties the table's sets: nothing is dropped any more. */
void ruleset_clear(struct ruleset_batch *batch, const char *table);

/* Sends what was appended and empties the batch. */
MUST_USE struct error *ruleset_commit(struct ruleset_batch *batch, struct netlink *netlink);

/* How many packets the table has dropped since it was made. */
MUST_USE struct error *ruleset_dropped(struct netlink *netlink, const char *table, uint64_t *ret_packets);

/* Calls each for every table of that family, with its name and ruleset_table.note. */
typedef struct error *ruleset_each_table(const char *name, const struct ruleset_note *note, void *context);
MUST_USE struct error *ruleset_tables(struct netlink *netlink, ruleset_each_table *each, void *context);

/* Calls each for every flow in the table's sets. */
typedef struct error *ruleset_each_flow(const struct flow *flow, void *context);
MUST_USE struct error *ruleset_flows(struct netlink *netlink, const char *table, ruleset_each_flow *each,
                                     void *context);
