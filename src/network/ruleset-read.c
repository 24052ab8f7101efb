/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The reading half of ruleset.h: what the kernel says about tables, counters and set elements. */

#include <arpa/inet.h> /* before the kernel's own headers, which give way to it */
#include <endian.h>

#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "network/ruleset-keys.h"
#include "network/ruleset.h"

enum { REQUEST_BYTES = 512 };

static struct nlmsghdr *request_begin(struct netlink *netlink, uint8_t bytes[REQUEST_BYTES], uint16_t type)
{
	struct nlmsghdr *request =
		nftnl_nlmsg_build_hdr((char *)bytes, type, NFPROTO_INET, NLM_F_DUMP, netlink_next_sequence(netlink));

	return request;
}

static const struct nlattr *top_level(const struct nlmsghdr *message, uint16_t type)
{
	return netlink_attribute(message, sizeof(struct nfgenmsg), type);
}

static struct error *take_counter(const struct nlmsghdr *message, void *context)
{
	uint64_t *packets = context;
	const struct nlattr *data = top_level(message, NFTA_OBJ_DATA);
	const struct nlattr *count = netlink_nested(data, NFTA_COUNTER_PACKETS);

	if (count && mnl_attr_get_payload_len(count) == sizeof(uint64_t))
		*packets += be64toh(mnl_attr_get_u64(count));
	return NULL;
}

struct error *ruleset_dropped(struct netlink *netlink, const char *table, uint64_t *ret_packets)
{
	uint8_t bytes[REQUEST_BYTES];
	struct nlmsghdr *request = request_begin(netlink, bytes, NFT_MSG_GETOBJ);
	uint64_t packets = 0;

	mnl_attr_put_strz(request, NFTA_OBJ_TABLE, table);
	mnl_attr_put_u32(request, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	TRY(netlink_dump(netlink, request, take_counter, &packets), "counter of nftables table %s", table);
	*ret_packets = packets;
	return NULL;
}

struct table_listing {
	ruleset_each_table *each;
	void *context;
};

static struct ruleset_note note_of(const struct nlattr *user_data)
{
	struct ruleset_user_data data = {0};
	struct ruleset_note note = {0};

	if (user_data && mnl_attr_get_payload_len(user_data) == sizeof(data))
		memcpy(&data, mnl_attr_get_payload(user_data), sizeof(data));
	if (data.type == RULESET_NOTE_TYPE && data.size_bytes == sizeof(note))
		memcpy(&note, data.note, sizeof(note));
	return note;
}

static struct error *take_table(const struct nlmsghdr *message, void *context)
{
	const struct table_listing *listing = context;
	const struct nlattr *name = top_level(message, NFTA_TABLE_NAME);
	struct ruleset_note note = note_of(top_level(message, NFTA_TABLE_USERDATA));

	if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0)
		return error_new(EBADMSG, "nftables table without a name");
	return listing->each(mnl_attr_get_str(name), &note, listing->context);
}

struct error *ruleset_tables(struct netlink *netlink, ruleset_each_table *each, void *context)
{
	uint8_t bytes[REQUEST_BYTES];
	struct table_listing listing = {.each = each, .context = context};
	const struct nlmsghdr *request = request_begin(netlink, bytes, NFT_MSG_GETTABLE);

	return error_wrap(netlink_dump(netlink, request, take_table, &listing), "nftables tables");
}

struct flow_listing {
	enum ruleset_set which;
	ruleset_each_flow *each;
	void *context;
};

static struct error *take_element(const struct nlattr *element, const struct flow_listing *listing)
{
	const struct nlattr *value = netlink_nested(netlink_nested(element, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);

	if (!value || mnl_attr_get_payload_len(value) != ruleset_sets[listing->which].key_bytes)
		return error_new(EBADMSG, "element of nftables set %s", ruleset_sets[listing->which].name);
	struct flow flow = ruleset_flow(listing->which, mnl_attr_get_payload(value));
	return listing->each(&flow, listing->context);
}

static struct error *take_elements(const struct nlmsghdr *message, void *context)
{
	const struct flow_listing *listing = context;
	const struct nlattr *list = top_level(message, NFTA_SET_ELEM_LIST_ELEMENTS);

	if (!list)
		return NULL;
	for (const struct nlattr *element = NULL; (element = netlink_next_nested(list, element));)
		TRY(take_element(element, listing));
	return NULL;
}

struct error *ruleset_flows(struct netlink *netlink, const char *table, ruleset_each_flow *each, void *context)
{
	for (enum ruleset_set which = 0; which < RULESET_SET_COUNT; which++) {
		uint8_t bytes[REQUEST_BYTES];
		struct flow_listing listing = {.which = which, .each = each, .context = context};
		struct nlmsghdr *request = request_begin(netlink, bytes, NFT_MSG_GETSETELEM);

		mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_TABLE, table);
		mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_SET, ruleset_sets[which].name);
		TRY(netlink_dump(netlink, request, take_elements, &listing), "nftables table %s", table);
	}
	return NULL;
}
