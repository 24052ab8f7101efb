/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "network/address.h"
#include "util/alloc.h"
#include "util/netlink.h"

enum { REQUEST_BYTES = 256 };

/* More than these on one host are not believed. */
enum { MESSAGES_MAX = 65536 };

/* Copies of what the kernel said of addresses or routes. Sent back as it is, each makes the same again: so does ip(8) in
 * `ip address restore`. */
struct saved_list {
	struct nlmsghdr **messages; /* owned, each too */
	size_t count;
	size_t room;
	int interface_index; /* only of this one; 0: all */
};

static void saved_list_clear(struct saved_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->messages[i]);
	free(list->messages);
	*list = (struct saved_list){0};
}

static void saved_list_owned(struct saved_list *list)
{
	saved_list_clear(list);
}
#define auto_saved_list AUTO(saved_list)

static void saved_list_add(struct saved_list *list, const struct nlmsghdr *message)
{
	struct nlmsghdr *copy = xalloc(message->nlmsg_len);

	if (list->count == list->room) {
		list->room = list->room ? list->room * 2 : 8;
		list->messages = reallocarray(list->messages, list->room, sizeof(void *));
		if (!list->messages)
			abort();
	}
	memcpy(copy, message, message->nlmsg_len);
	list->messages[list->count++] = copy;
}

bool ip_address_parse(const char *text, struct ip_address *ret_ip)
{
	struct ip_address ip = {.family = AF_INET};

	if (inet_pton(AF_INET, text, ip.bytes) != 1) {
		ip.family = AF_INET6;
		if (inet_pton(AF_INET6, text, ip.bytes) != 1)
			return false;
	}
	*ret_ip = ip;
	return true;
}

static size_t ip_bytes(sa_family_t family)
{
	return family == AF_INET ? 4 : 16;
}

static bool is_same_ip(const struct ip_address *a, const struct ip_address *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, ip_bytes(a->family)) == 0;
}

static struct error *name_error(int errnum, const struct ip_address *ip, const char *what)
{
	char text[INET6_ADDRSTRLEN] = "?";

	inet_ntop(ip->family, ip->bytes, text, sizeof(text));
	return error_new(errnum, "%s %s", what, text);
}

/* False for what is no address of a kind that we know. */
static bool parse_address(const struct nlmsghdr *message, struct interface_address *ret_address)
{
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);

	if (message->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return false;
	if (header->ifa_family != AF_INET && header->ifa_family != AF_INET6)
		return false;

	/* On a point-to-point link IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL otherwise. */
	const struct nlattr *ip = netlink_attribute(message, sizeof(*header), IFA_LOCAL);
	if (!ip)
		ip = netlink_attribute(message, sizeof(*header), IFA_ADDRESS);
	if (!ip || mnl_attr_get_payload_len(ip) != ip_bytes(header->ifa_family))
		return false;
	*ret_address = (struct interface_address){
		.ip.family = header->ifa_family,
		.prefix_bits = header->ifa_prefixlen,
		.interface_index = (int)header->ifa_index,
	};
	memcpy(ret_address->ip.bytes, mnl_attr_get_payload(ip), mnl_attr_get_payload_len(ip));
	return true;
}

static struct error *save_address(const struct nlmsghdr *message, void *context)
{
	struct saved_list *list = context;
	struct interface_address address;

	if (!parse_address(message, &address))
		return NULL;
	if (list->interface_index && address.interface_index != list->interface_index)
		return NULL;
	if (list->count == MESSAGES_MAX)
		return error_new(E2BIG, "more than %d addresses", MESSAGES_MAX);
	saved_list_add(list, message);
	return NULL;
}

/* Reads a list again if it changed meanwhile, a few times. */
static struct error *save_list(struct netlink *netlink, struct nlmsghdr *request, netlink_each *each,
                               struct saved_list *list)
{
	struct error *error = NULL;
	int interface_index = list->interface_index;

	for (int attempt = 0; attempt < 10; attempt++) {
		saved_list_clear(list);
		list->interface_index = interface_index;
		error_free(error);
		request->nlmsg_seq = netlink_next_sequence(netlink);
		error = netlink_dump(netlink, request, each, list);
		if (!error || error_errnum(error) != EINTR)
			break;
	}
	return error;
}

static struct error *save_addresses(struct netlink *netlink, struct saved_list *list)
{
	uint8_t bytes[REQUEST_BYTES];
	struct nlmsghdr *request = mnl_nlmsg_put_header(bytes);

	request->nlmsg_type = RTM_GETADDR;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(request, sizeof(struct ifaddrmsg));
	return error_wrap(save_list(netlink, request, save_address, list), "list addresses");
}

/* Routes of the interface that the kernel doesn't make by itself when an address is added. */
static struct error *save_route(const struct nlmsghdr *message, void *context)
{
	struct saved_list *list = context;
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);

	if (message->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return NULL;
	const struct nlattr *interface = netlink_attribute(message, sizeof(*header), RTA_OIF);
	if (!interface || mnl_attr_get_payload_len(interface) != sizeof(uint32_t))
		return NULL;
	if ((int)mnl_attr_get_u32(interface) != list->interface_index || header->rtm_protocol == RTPROT_KERNEL)
		return NULL;
	if (header->rtm_flags & RTM_F_CLONED || list->count == MESSAGES_MAX)
		return NULL;
	saved_list_add(list, message);
	return NULL;
}

static struct error *save_routes(struct netlink *netlink, sa_family_t family, struct saved_list *list)
{
	uint8_t bytes[REQUEST_BYTES];
	struct nlmsghdr *request = mnl_nlmsg_put_header(bytes);

	request->nlmsg_type = RTM_GETROUTE;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct rtmsg *header = mnl_nlmsg_put_extra_header(request, sizeof(*header));
	header->rtm_family = (uint8_t)family;
	return error_wrap(save_list(netlink, request, save_route, list), "list routes");
}

/* Sends back what was saved. What is there already is fine. */
static struct error *send_saved(struct netlink *netlink, struct nlmsghdr *message)
{
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	message->nlmsg_seq = netlink_next_sequence(netlink);
	message->nlmsg_pid = 0;
	auto_error struct error *error = netlink_send(netlink, message, message->nlmsg_len);
	if (error && error_errnum(error) == EEXIST)
		return NULL;
	return take(error);
}

/* The same with IFA_F_NODAD: it was in use, so it needs no check. Flags beyond 8 bits are in the attribute alone. */
static struct error *send_saved_address(struct netlink *netlink, struct nlmsghdr *message)
{
	const struct nlattr *flags = netlink_attribute(message, sizeof(struct ifaddrmsg), IFA_FLAGS);
	struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
	uint32_t with_nodad = header->ifa_flags | IFA_F_NODAD;

	header->ifa_flags |= IFA_F_NODAD;
	if (flags && mnl_attr_get_payload_len(flags) == sizeof(uint32_t)) {
		with_nodad |= mnl_attr_get_u32(flags);
		size_t offset = (size_t)((const char *)mnl_attr_get_payload(flags) - (const char *)message);
		memcpy((char *)message + offset, &with_nodad, sizeof(with_nodad));
	}
	return send_saved(netlink, message);
}

struct error *addresses_list(struct interface_address **ret_addresses, size_t *ret_count)
{
	auto_netlink struct netlink *netlink = NULL;
	auto_saved_list struct saved_list list = {0};

	TRY(netlink_open(NETLINK_ROUTE, &netlink));
	TRY(save_addresses(netlink, &list));
	auto_free struct interface_address *addresses = xalloc((list.count + 1) * sizeof(*addresses));
	for (size_t i = 0; i < list.count; i++)
		(void)parse_address(list.messages[i], &addresses[i]); /* it was parsed before it was saved */
	*ret_count = list.count;
	*ret_addresses = take(addresses);
	return NULL;
}

struct error *address_find(const struct ip_address *ip, struct interface_address *ret_address)
{
	auto_free struct interface_address *addresses = NULL;
	size_t count = 0;

	TRY(addresses_list(&addresses, &count));
	for (size_t i = 0; i < count; i++)
		if (is_same_ip(&addresses[i].ip, ip)) {
			*ret_address = addresses[i];
			return NULL;
		}
	return error_hint(name_error(EADDRNOTAVAIL, ip, "no interface has address"), "ip -brief address lists them");
}

static bool is_in_subnet(const struct ip_address *ip, const struct interface_address *of)
{
	size_t whole_bytes = of->prefix_bits / 8;
	unsigned int rest_bits = of->prefix_bits % 8;

	if (ip->family != of->ip.family || of->prefix_bits > ip_bytes(ip->family) * 8)
		return false;
	if (memcmp(ip->bytes, of->ip.bytes, whole_bytes) != 0)
		return false;
	return rest_bits == 0 || (ip->bytes[whole_bytes] ^ of->ip.bytes[whole_bytes]) >> (8 - rest_bits) == 0;
}

struct error *address_place(const struct ip_address *ip, struct interface_address *ret_address)
{
	auto_free struct interface_address *addresses = NULL;
	const struct interface_address *best = NULL;
	size_t count = 0;

	TRY(addresses_list(&addresses, &count));
	for (size_t i = 0; i < count; i++)
		if (is_in_subnet(ip, &addresses[i]) && (!best || addresses[i].prefix_bits > best->prefix_bits))
			best = &addresses[i];
	if (!best)
		return error_hint(name_error(EADDRNOTAVAIL, ip, "no interface is in the subnet of"),
		                  "name the prefix length and the interface, or give an interface an address of that "
		                  "subnet first");
	*ret_address = *best;
	ret_address->ip = *ip;
	return NULL;
}

struct address_note {
	struct netlink *netlink; /* owned */
	struct interface_address address;
	struct saved_list addresses; /* of the interface, in their order */
	struct saved_list routes;
};

void address_note_free(struct address_note *note)
{
	if (!note)
		return;
	saved_list_clear(&note->addresses);
	saved_list_clear(&note->routes);
	netlink_free(note->netlink);
	free(note);
}

struct error *address_note(const struct ip_address *ip, struct address_note **ret_note)
{
	auto_address_note struct address_note *note = xalloc(sizeof(*note));

	TRY(address_find(ip, &note->address));
	TRY(netlink_open(NETLINK_ROUTE, &note->netlink));
	note->addresses.interface_index = note->address.interface_index;
	note->routes.interface_index = note->address.interface_index;
	TRY(save_addresses(note->netlink, &note->addresses));
	TRY(save_routes(note->netlink, ip->family, &note->routes));
	*ret_note = take(note);
	return NULL;
}

/* ---- Notes as bytes ---- */

/* The address, how many bytes of messages with addresses follow, those, and the messages with routes. */
struct note_head {
	struct interface_address address;
	uint64_t addresses_bytes;
};

static size_t list_bytes(const struct saved_list *list)
{
	size_t bytes = 0;

	for (size_t i = 0; i < list->count; i++)
		bytes += NLMSG_ALIGN(list->messages[i]->nlmsg_len);
	return bytes;
}

static uint8_t *copy_list(const struct saved_list *list, uint8_t *at)
{
	for (size_t i = 0; i < list->count; i++) {
		memcpy(at, list->messages[i], list->messages[i]->nlmsg_len);
		at += NLMSG_ALIGN(list->messages[i]->nlmsg_len);
	}
	return at;
}

void address_note_bytes(const struct address_note *note, uint8_t **ret_bytes, size_t *ret_size_bytes)
{
	struct note_head head = {.address = note->address, .addresses_bytes = list_bytes(&note->addresses)};
	size_t size_bytes = sizeof(head) + head.addresses_bytes + list_bytes(&note->routes);
	uint8_t *bytes = xalloc(size_bytes);

	memcpy(bytes, &head, sizeof(head));
	copy_list(&note->routes, copy_list(&note->addresses, bytes + sizeof(head)));
	*ret_bytes = bytes;
	*ret_size_bytes = size_bytes;
}

static struct error *take_list(const uint8_t *bytes, size_t size_bytes, struct saved_list *list)
{
	while (size_bytes > 0) {
		struct nlmsghdr header;

		if (size_bytes < sizeof(header) || list->count == MESSAGES_MAX)
			return error_new(EBADMSG, "note of an address");
		memcpy(&header, bytes, sizeof(header));
		if (header.nlmsg_len < sizeof(header) || NLMSG_ALIGN(header.nlmsg_len) > size_bytes)
			return error_new(EBADMSG, "note of an address");
		auto_free struct nlmsghdr *message = xalloc(NLMSG_ALIGN(header.nlmsg_len));
		memcpy(message, bytes, header.nlmsg_len);
		saved_list_add(list, message);
		bytes += NLMSG_ALIGN(header.nlmsg_len);
		size_bytes -= NLMSG_ALIGN(header.nlmsg_len);
	}
	return NULL;
}

struct error *address_note_from_bytes(const uint8_t *bytes, size_t size_bytes, struct address_note **ret_note)
{
	auto_address_note struct address_note *note = xalloc(sizeof(*note));
	struct note_head head;

	if (size_bytes < sizeof(head))
		return error_new(EBADMSG, "note of an address");
	memcpy(&head, bytes, sizeof(head));
	if (head.addresses_bytes > size_bytes - sizeof(head))
		return error_new(EBADMSG, "note of an address");
	note->address = head.address;
	note->addresses.interface_index = head.address.interface_index;
	note->routes.interface_index = head.address.interface_index;
	bytes += sizeof(head);
	TRY(take_list(bytes, head.addresses_bytes, &note->addresses));
	TRY(take_list(bytes + head.addresses_bytes, size_bytes - sizeof(head) - head.addresses_bytes, &note->routes));
	TRY(netlink_open(NETLINK_ROUTE, &note->netlink));
	*ret_note = take(note);
	return NULL;
}

const struct interface_address *address_noted(const struct address_note *note)
{
	return &note->address;
}

/* Adds or deletes. */
static struct error *change_address(struct netlink *netlink, uint16_t type, const struct interface_address *address)
{
	uint8_t bytes[REQUEST_BYTES];
	struct nlmsghdr *request = mnl_nlmsg_put_header(bytes);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_EXCL : 0);
	request->nlmsg_seq = netlink_next_sequence(netlink);
	struct ifaddrmsg *header = mnl_nlmsg_put_extra_header(request, sizeof(*header));
	header->ifa_family = (uint8_t)address->ip.family;
	header->ifa_prefixlen = address->prefix_bits;
	header->ifa_index = (uint32_t)address->interface_index;
	header->ifa_flags = type == RTM_NEWADDR ? IFA_F_NODAD : 0;
	mnl_attr_put(request, IFA_LOCAL, ip_bytes(address->ip.family), address->ip.bytes);
	mnl_attr_put(request, IFA_ADDRESS, ip_bytes(address->ip.family), address->ip.bytes);
	return netlink_send(netlink, request, request->nlmsg_len);
}

/* What was there before and isn't now, in the old order; the address itself only if with_it. */
static struct error *put_back_missing(const struct address_note *note, bool with_it)
{
	for (size_t i = 0; i < note->addresses.count; i++) {
		struct interface_address address;

		if (!parse_address(note->addresses.messages[i], &address))
			continue;
		if (is_same_ip(&address.ip, &note->address.ip) && !with_it)
			continue;
		TRY(send_saved_address(note->netlink, note->addresses.messages[i]));
	}
	return NULL;
}

/* A route that can't come back without the address (its next hop is gone with it) isn't missed while that is away. */
static struct error *put_back_routes(const struct address_note *note, bool with_it)
{
	for (size_t i = 0; i < note->routes.count; i++) {
		auto_error struct error *error = send_saved(note->netlink, note->routes.messages[i]);

		if (error && with_it)
			return error_wrap(take(error), "put back route %zu of interface %d", i,
			                  note->address.interface_index);
	}
	return NULL;
}

static bool has_address(const struct saved_list *list, const struct ip_address *ip)
{
	for (size_t i = 0; i < list->count; i++) {
		struct interface_address address;

		if (parse_address(list->messages[i], &address) && is_same_ip(&address.ip, ip))
			return true;
	}
	return false;
}

static size_t count_of_family(const struct saved_list *list, sa_family_t family)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct ifaddrmsg *header = mnl_nlmsg_get_payload(list->messages[i]);

		count += header->ifa_family == family;
	}
	return count;
}

struct error *address_remove(const struct address_note *note)
{
	const struct ip_address *ip = &note->address.ip;
	auto_saved_list struct saved_list left = {.interface_index = note->address.interface_index};
	struct error *error = change_address(note->netlink, RTM_DELADDR, &note->address);

	if (error)
		return error_wrap(error, "remove an address from interface %d", note->address.interface_index);
	TRY(save_addresses(note->netlink, &left));
	if (count_of_family(&left, ip->family) + 1 >= count_of_family(&note->addresses, ip->family))
		return NULL;
	TRY(put_back_missing(note, false), "put back the neighbours of a removed address");
	return put_back_routes(note, false);
}

/*
 * The first IPv4 address of a subnet is its primary, and the one that new connections come from. So what follows ours in
 * the subnet goes for a moment (a packet for it is lost, not refused) and comes back behind it.
 */
static void make_room_before_secondaries(const struct address_note *note)
{
	bool is_behind = false;

	for (size_t i = 0; i < note->addresses.count; i++) {
		struct interface_address address;

		if (!parse_address(note->addresses.messages[i], &address))
			continue;
		bool is_ours = is_same_ip(&address.ip, &note->address.ip);
		if (is_behind && !is_ours && address.prefix_bits == note->address.prefix_bits &&
		    is_in_subnet(&address.ip, &note->address))
			error_free(change_address(note->netlink, RTM_DELADDR, &address)); /* gone with another one */
		is_behind |= is_ours;
	}
}

struct error *address_put_back(const struct address_note *note)
{
	auto_saved_list struct saved_list now = {.interface_index = note->address.interface_index};

	TRY(save_addresses(note->netlink, &now));
	if (note->address.ip.family == AF_INET && !has_address(&now, &note->address.ip))
		make_room_before_secondaries(note);
	TRY(put_back_missing(note, true), "put back an address on interface %d", note->address.interface_index);
	return put_back_routes(note, true);
}

static struct error *change_address_now(uint16_t type, const struct interface_address *address, int harmless)
{
	auto_netlink struct netlink *netlink = NULL;

	TRY(netlink_open(NETLINK_ROUTE, &netlink));
	auto_error struct error *error = change_address(netlink, type, address);
	if (!error || error_errnum(error) == harmless)
		return NULL;
	return error_wrap(take(error), "%s an address on interface %d", type == RTM_NEWADDR ? "add" : "delete",
	                  address->interface_index);
}

struct error *address_add(const struct interface_address *address)
{
	return change_address_now(RTM_NEWADDR, address, EEXIST);
}

struct error *address_delete(const struct interface_address *address)
{
	return change_address_now(RTM_DELADDR, address, EADDRNOTAVAIL);
}
