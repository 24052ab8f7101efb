/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <netinet/in.h> /* before the kernel's own headers, which give way to it */

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "network/ruleset-keys.h"
#include "network/ruleset.h"
#include "util/alloc.h"

/* Room for any single message that we make. A message of set elements is ended at ELEMENTS_BYTES. */
enum { MESSAGE_BYTES = 32768, ELEMENTS_BYTES = 24576 };

/* Before conntrack, which stands at -200: NF_IP_PRI_CONNTRACK. */
enum { PRIORITY = -300 };

static const char counter_name[] = "dropped";

struct ruleset_batch {
	uint8_t *bytes; /* owned */
	size_t used_bytes;
	size_t size_bytes;
	size_t last_offset; /* of the last message */
	uint32_t sequence;
};

struct ruleset_batch *ruleset_batch_new(void)
{
	struct ruleset_batch *batch = xalloc(sizeof(*batch));

	batch->size_bytes = (size_t)2 * MESSAGE_BYTES;
	batch->bytes = xalloc(batch->size_bytes);
	return batch;
}

void ruleset_batch_free(struct ruleset_batch *batch)
{
	if (batch)
		free(batch->bytes);
	free(batch);
}

/* Room for one message at the end. */
static void *message_room(struct ruleset_batch *batch)
{
	if (batch->size_bytes - batch->used_bytes < MESSAGE_BYTES) {
		size_t larger_bytes = batch->size_bytes * 2;
		uint8_t *larger = xalloc(larger_bytes);

		memcpy(larger, batch->bytes, batch->used_bytes);
		free(batch->bytes);
		batch->bytes = larger;
		batch->size_bytes = larger_bytes;
	}
	return batch->bytes + batch->used_bytes;
}

static void message_done(struct ruleset_batch *batch, const struct nlmsghdr *message)
{
	assert(message->nlmsg_len <= MESSAGE_BYTES);
	batch->last_offset = batch->used_bytes;
	batch->used_bytes += NLMSG_ALIGN(message->nlmsg_len);
}

/* Begins a message, and the batch with the first one. */
static struct nlmsghdr *message_begin(struct ruleset_batch *batch, uint16_t type, uint16_t flags)
{
	if (batch->used_bytes == 0)
		message_done(batch, nftnl_batch_begin(message_room(batch), ++batch->sequence));
	return nftnl_nlmsg_build_hdr(message_room(batch), type, NFPROTO_INET, flags, ++batch->sequence);
}

static void put_note(struct nftnl_table *table, const struct ruleset_note *note)
{
	struct ruleset_user_data data = {.type = RULESET_NOTE_TYPE, .size_bytes = sizeof(data.note)};

	if (!note->namespace_id)
		return;
	memcpy(data.note, note, sizeof(data.note));
	nftnl_table_set_data(table, NFTNL_TABLE_USERDATA, &data, sizeof(data));
}

static void put_table(struct ruleset_batch *batch, const struct ruleset_table *options)
{
	struct nftnl_table *table = nftnl_table_alloc();
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);

	if (!table)
		abort();
	nftnl_table_set_str(table, NFTNL_TABLE_NAME, options->name);
	nftnl_table_set_u32(table, NFTNL_TABLE_FLAGS, options->is_owned ? NFT_TABLE_F_OWNER : 0);
	put_note(table, &options->note);
	nftnl_table_nlmsg_build_payload(message, table);
	nftnl_table_free(table);
	message_done(batch, message);
}

static void put_set(struct ruleset_batch *batch, const char *table, enum ruleset_set which)
{
	struct nftnl_set *set = nftnl_set_alloc();
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_NEWSET, NLM_F_CREATE);

	if (!set)
		abort();
	nftnl_set_set_str(set, NFTNL_SET_TABLE, table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, ruleset_sets[which].name);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(set, NFTNL_SET_ID, which + 1);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, ruleset_sets[which].shown_type);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, ruleset_sets[which].key_bytes);
	nftnl_set_nlmsg_build_payload(message, set);
	nftnl_set_free(set);
	message_done(batch, message);
}

static void put_counter(struct ruleset_batch *batch, const char *table)
{
	struct nftnl_obj *counter = nftnl_obj_alloc();
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_NEWOBJ, NLM_F_CREATE);

	if (!counter)
		abort();
	nftnl_obj_set_str(counter, NFTNL_OBJ_TABLE, table);
	nftnl_obj_set_str(counter, NFTNL_OBJ_NAME, counter_name);
	nftnl_obj_set_u32(counter, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
	nftnl_obj_set_u32(counter, NFTNL_OBJ_FAMILY, NFPROTO_INET);
	nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_BYTES, 0);
	nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_PKTS, 0);
	nftnl_obj_nlmsg_build_payload(message, counter);
	nftnl_obj_free(counter);
	message_done(batch, message);
}

struct chain {
	const char *name;
	uint32_t hook;
	bool is_outgoing;
};

static void put_chain(struct ruleset_batch *batch, const char *table, const struct chain *which)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);

	if (!chain)
		abort();
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, table);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, which->name);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, which->hook);
	nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, PRIORITY);
	nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(message, chain);
	nftnl_chain_free(chain);
	message_done(batch, message);
}

static struct nftnl_expr *add_expression(struct nftnl_rule *rule, const char *name)
{
	struct nftnl_expr *expression = nftnl_expr_alloc(name);

	if (!expression)
		abort();
	nftnl_rule_add_expr(rule, expression);
	return expression;
}

/* Goes on only if the value of that kind (NFT_META_…) is the one given. */
static void match_meta(struct nftnl_rule *rule, uint32_t kind, uint8_t value)
{
	struct nftnl_expr *meta = add_expression(rule, "meta");
	struct nftnl_expr *compare = add_expression(rule, "cmp");

	nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, kind);
	nftnl_expr_set_u32(meta, NFTNL_EXPR_META_DREG, NFT_REG_1);
	nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(compare, NFTNL_EXPR_CMP_DATA, &value, sizeof(value));
}

static void load_payload(struct nftnl_rule *rule, uint32_t base, struct header_field field, uint32_t to_register)
{
	struct nftnl_expr *payload = add_expression(rule, "payload");

	nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_OFFSET, field.offset);
	nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_LEN, field.size_bytes);
	nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_DREG, to_register);
}

/* Goes on only for packets that begin a connection. */
static void match_syn(struct nftnl_rule *rule)
{
	static const uint8_t mask = 0x12; /* SYN, ACK */
	static const uint8_t none = 0;
	static const uint8_t syn = 0x02;

	load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, (struct header_field){13, 1}, NFT_REG_1);
	struct nftnl_expr *bits = add_expression(rule, "bitwise");
	nftnl_expr_set_u32(bits, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(bits, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(bits, NFTNL_EXPR_BITWISE_LEN, 1);
	nftnl_expr_set(bits, NFTNL_EXPR_BITWISE_MASK, &mask, 1);
	nftnl_expr_set(bits, NFTNL_EXPR_BITWISE_XOR, &none, 1);

	struct nftnl_expr *compare = add_expression(rule, "cmp");
	nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(compare, NFTNL_EXPR_CMP_DATA, &syn, 1);
}

/* Zeros into registers, where a listener's key has "any address". */
static void load_zeros(struct nftnl_rule *rule, uint32_t size_bytes, uint32_t to_register)
{
	static const uint8_t zeros[16];
	struct nftnl_expr *immediate = add_expression(rule, "immediate");

	nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, to_register);
	nftnl_expr_set(immediate, NFTNL_EXPR_IMM_DATA, zeros, size_bytes);
}

static void match_set(struct nftnl_rule *rule, enum ruleset_set which)
{
	struct nftnl_expr *lookup = add_expression(rule, "lookup");

	nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
	nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, ruleset_sets[which].name);
	nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SET_ID, which + 1);
}

static void count_and_drop(struct nftnl_rule *rule)
{
	struct nftnl_expr *counter = add_expression(rule, "objref");
	struct nftnl_expr *verdict = add_expression(rule, "immediate");

	nftnl_expr_set_u32(counter, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
	nftnl_expr_set_str(counter, NFTNL_EXPR_OBJREF_IMM_NAME, counter_name);
	nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_VERDICT, NF_DROP);
}

static struct nftnl_rule *rule_begin(const char *table, const struct chain *chain, enum ruleset_set which)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (!rule)
		abort();
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain->name);
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	match_meta(rule, NFT_META_NFPROTO, ruleset_sets[which].family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
	match_meta(rule, NFT_META_L4PROTO, IPPROTO_TCP);
	return rule;
}

static void rule_end(struct ruleset_batch *batch, struct nftnl_rule *rule)
{
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

	count_and_drop(rule);
	nftnl_rule_nlmsg_build_payload(message, rule);
	nftnl_rule_free(rule);
	message_done(batch, message);
}

/* Local address, remote address, local port, remote port into the registers, as the set's keys have them. */
static void put_connection_rule(struct ruleset_batch *batch, const char *table, const struct chain *chain,
                                enum ruleset_set which)
{
	const struct ruleset_set_layout *set = &ruleset_sets[which];
	uint32_t words = set->source.size_bytes / 4;
	struct nftnl_rule *rule = rule_begin(table, chain, which);
	bool out = chain->is_outgoing;

	load_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, out ? set->source : set->destination, NFT_REG32_00);
	load_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, out ? set->destination : set->source, NFT_REG32_00 + words);
	load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, out ? tcp_source_port : tcp_destination_port,
	             NFT_REG32_00 + 2 * words);
	load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, out ? tcp_destination_port : tcp_source_port,
	             NFT_REG32_00 + 2 * words + 1);
	match_set(rule, which);
	rule_end(batch, rule);
}

static void put_listener_rule(struct ruleset_batch *batch, const char *table, const struct chain *chain,
                              enum ruleset_set which, bool any_address)
{
	const struct ruleset_set_layout *set = &ruleset_sets[which];
	uint32_t words = set->destination.size_bytes / 4;
	struct nftnl_rule *rule = rule_begin(table, chain, which);

	match_syn(rule);
	if (any_address)
		load_zeros(rule, set->destination.size_bytes, NFT_REG32_00);
	else
		load_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, set->destination, NFT_REG32_00);
	load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, tcp_destination_port, NFT_REG32_00 + words);
	match_set(rule, which);
	rule_end(batch, rule);
}

static void put_rules(struct ruleset_batch *batch, const char *table, const struct chain *chain)
{
	put_connection_rule(batch, table, chain, RULESET_CONNECTIONS_IPV4);
	put_connection_rule(batch, table, chain, RULESET_CONNECTIONS_IPV6);
	if (chain->is_outgoing)
		return;
	for (int any_address = 0; any_address <= 1; any_address++) {
		put_listener_rule(batch, table, chain, RULESET_LISTENERS_IPV4, any_address);
		put_listener_rule(batch, table, chain, RULESET_LISTENERS_IPV6, any_address);
	}
}

void ruleset_add_table(struct ruleset_batch *batch, const struct ruleset_table *table)
{
	static const struct chain chains[] = {
		{"prerouting", NF_INET_PRE_ROUTING, false},
		{"input", NF_INET_LOCAL_IN, false},
		{"output", NF_INET_LOCAL_OUT, true},
	};

	/* Made if it isn't there, so that deleting can't fail, and made anew: all in one step. */
	put_table(batch, table);
	ruleset_delete_table(batch, table->name);
	put_table(batch, table);
	for (enum ruleset_set which = 0; which < RULESET_SET_COUNT; which++)
		put_set(batch, table->name, which);
	put_counter(batch, table->name);
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		put_chain(batch, table->name, &chains[i]);
		put_rules(batch, table->name, &chains[i]);
	}
}

void ruleset_delete_table(struct ruleset_batch *batch, const char *table)
{
	struct nlmsghdr *message = message_begin(batch, NFT_MSG_DELTABLE, 0);

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, table);
	message_done(batch, message);
}

static void put_element(struct nlmsghdr *message, const uint8_t *key, uint32_t key_bytes)
{
	struct nlattr *element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	struct nlattr *value = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);

	mnl_attr_put(message, NFTA_DATA_VALUE, key_bytes, key);
	mnl_attr_nest_end(message, value);
	mnl_attr_nest_end(message, element);
}

/* The flows of one set, from number first on, as many as fit in a message. Returns the number behind the last one. */
static size_t put_some_elements(struct ruleset_batch *batch, struct nlmsghdr *message, enum ruleset_set which,
                                const struct flow *flows, size_t count)
{
	struct nlattr *list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	size_t n = 0;

	for (; n < count && message->nlmsg_len < ELEMENTS_BYTES; n++) {
		uint8_t key[RULESET_KEY_BYTES_MAX];

		if (ruleset_set_of(&flows[n]) != which)
			continue;
		ruleset_key(&flows[n], key);
		put_element(message, key, ruleset_sets[which].key_bytes);
	}
	mnl_attr_nest_end(message, list);
	message_done(batch, message);
	return n;
}

static struct nlmsghdr *elements_begin(struct ruleset_batch *batch, uint16_t type, const char *table,
                                       enum ruleset_set which)
{
	struct nlmsghdr *message = message_begin(batch, type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0);

	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, ruleset_sets[which].name);
	return message;
}

static void put_elements(struct ruleset_batch *batch, uint16_t type, const char *table, const struct flow *flows,
                         size_t count)
{
	bool is_used[RULESET_SET_COUNT] = {false};

	for (size_t i = 0; i < count; i++)
		is_used[ruleset_set_of(&flows[i])] = true;
	for (enum ruleset_set which = 0; which < RULESET_SET_COUNT; which++) {
		if (!is_used[which])
			continue;
		for (size_t done = 0; done < count;)
			done += put_some_elements(batch, elements_begin(batch, type, table, which), which, flows + done,
			                          count - done);
	}
}

void ruleset_add_flows(struct ruleset_batch *batch, const char *table, const struct flow *flows, size_t count)
{
	put_elements(batch, NFT_MSG_NEWSETELEM, table, flows, count);
}

void ruleset_delete_flows(struct ruleset_batch *batch, const char *table, const struct flow *flows, size_t count)
{
	put_elements(batch, NFT_MSG_DELSETELEM, table, flows, count);
}

void ruleset_clear(struct ruleset_batch *batch, const char *table)
{
	/* Deleting elements of a set without naming one deletes all. */
	for (enum ruleset_set which = 0; which < RULESET_SET_COUNT; which++)
		message_done(batch, elements_begin(batch, NFT_MSG_DELSETELEM, table, which));
}

struct error *ruleset_commit(struct ruleset_batch *batch, struct netlink *netlink)
{
	if (batch->used_bytes == 0)
		return NULL;

	/* One answer is enough. The end of a batch is acknowledged only since Linux 6.10, so the last message is asked. */
	struct nlmsghdr *last = (struct nlmsghdr *)(void *)(batch->bytes + batch->last_offset);
	last->nlmsg_flags |= NLM_F_ACK;
	message_done(batch, nftnl_batch_end(message_room(batch), ++batch->sequence));

	struct error *error = netlink_send(netlink, batch->bytes, batch->used_bytes);
	batch->used_bytes = 0;
	return error_wrap(error, "nftables batch");
}
