/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <linux/netlink.h>
#include <sys/socket.h>

#include "util/alloc.h"
#include "util/netlink.h"

/* The kernel packs up to this many bytes of a list into one answer: NLMSG_GOODSIZE at most, whatever the page size. */
enum { ANSWER_BYTES = 32768 };

struct netlink {
	struct mnl_socket *socket; /* owned */
	uint32_t sequence;
	uint8_t answer[ANSWER_BYTES];
};

struct error *netlink_open(int bus, struct netlink **ret_netlink)
{
	auto_netlink struct netlink *netlink = xalloc(sizeof(*netlink));
	int batch_bytes = 64 << 20;
	int on = 1;

	netlink->socket = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (!netlink->socket)
		return error_new(errno, "socket(AF_NETLINK, bus %d)", bus);
	if (mnl_socket_bind(netlink->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		return error_new(errno, "bind(AF_NETLINK, bus %d)", bus);

	/* A batch is one packet, and the default would end it at 200 kB. A limit only: nothing is allocated by it. */
	if (setsockopt(mnl_socket_get_fd(netlink->socket), SOL_SOCKET, SO_SNDBUFFORCE, &batch_bytes,
	               sizeof(batch_bytes)) != 0 &&
	    errno != EPERM)
		return error_new(errno, "setsockopt(AF_NETLINK, SO_SNDBUFFORCE)");

	/* Only for better words in errors, and absent before Linux 4.12. */
	(void)mnl_socket_setsockopt(netlink->socket, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)mnl_socket_setsockopt(netlink->socket, NETLINK_CAP_ACK, &on, sizeof(on));
	*ret_netlink = take(netlink);
	return NULL;
}

void netlink_free(struct netlink *netlink)
{
	if (netlink && netlink->socket)
		mnl_socket_close(netlink->socket);
	free(netlink);
}

uint32_t netlink_port_id(const struct netlink *netlink)
{
	return mnl_socket_get_portid(netlink->socket);
}

uint32_t netlink_next_sequence(struct netlink *netlink)
{
	return ++netlink->sequence;
}

static int find_words(const struct nlattr *attribute, void *context)
{
	const char **words = context;

	if (mnl_attr_get_type(attribute) == NLMSGERR_ATTR_MSG && mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
		*words = mnl_attr_get_str(attribute);
	return MNL_CB_OK;
}

/* NULL for an acknowledgment. */
static struct error *refusal(const struct nlmsghdr *answer)
{
	const struct nlmsgerr *verdict = mnl_nlmsg_get_payload(answer);
	const char *words = NULL;

	if (mnl_nlmsg_get_payload_len(answer) < sizeof(*verdict))
		return error_new(EBADMSG, "netlink answer of %u bytes", answer->nlmsg_len);
	if (verdict->error == 0)
		return NULL;
	if (answer->nlmsg_flags & NLM_F_ACK_TLVS)
		mnl_attr_parse(answer, sizeof(*verdict), find_words, &words);
	return error_new(-verdict->error, "netlink message type %#x%s%s%s", verdict->msg.nlmsg_type, words ? " (" : "",
	                 words ? words : "", words ? ")" : "");
}

/* Reads what has been answered so far. -EAGAIN in *ret_error's place: nothing is left. */
static ssize_t receive(struct netlink *netlink, int flags)
{
	return recv(mnl_socket_get_fd(netlink->socket), netlink->answer, sizeof(netlink->answer), flags);
}

/* Keeps the first error, since those behind it are its consequences. */
static void keep_first(struct error **first, struct error *error)
{
	if (*first)
		error_free(error);
	else
		*first = error;
}

static void take_verdicts(const struct netlink *netlink, ssize_t size_bytes, size_t *verdict_count,
                          struct error **first)
{
	int left = (int)size_bytes;

	for (const struct nlmsghdr *answer = (const struct nlmsghdr *)netlink->answer; mnl_nlmsg_ok(answer, left);
	     answer = mnl_nlmsg_next(answer, &left))
		if (answer->nlmsg_type == NLMSG_ERROR) {
			++*verdict_count;
			keep_first(first, refusal(answer));
		}
}

struct error *netlink_send(struct netlink *netlink, const void *messages, size_t size_bytes)
{
	struct error *error = NULL;
	size_t verdict_count = 0;
	ssize_t got;

	if (mnl_socket_sendto(netlink->socket, messages, size_bytes) < 0)
		return error_new(errno, "sendto(AF_NETLINK, %zu bytes)", size_bytes);
	while ((got = receive(netlink, MSG_DONTWAIT)) >= 0)
		take_verdicts(netlink, got, &verdict_count, &error);
	if (errno != EAGAIN)
		keep_first(&error, error_new(errno, "recv(AF_NETLINK)"));
	if (!error && verdict_count == 0)
		return error_new(EPROTO, "netlink gave no answer");
	return error;
}

/* True when the list is at its end. */
static bool take_list(const struct netlink *netlink, ssize_t size_bytes, netlink_each *each, void *context,
                      struct error **first)
{
	int left = (int)size_bytes;

	for (const struct nlmsghdr *answer = (const struct nlmsghdr *)netlink->answer; mnl_nlmsg_ok(answer, left);
	     answer = mnl_nlmsg_next(answer, &left)) {
		if (answer->nlmsg_flags & NLM_F_DUMP_INTR)
			keep_first(first, error_new(EINTR, "netlink list changed while it was read"));
		if (answer->nlmsg_type == NLMSG_DONE)
			return true;
		if (answer->nlmsg_type == NLMSG_ERROR) {
			keep_first(first, refusal(answer));
			return true;
		}
		if (!*first)
			*first = each(answer, context);
	}
	return false;
}

struct error *netlink_dump(struct netlink *netlink, const struct nlmsghdr *request, netlink_each *each, void *context)
{
	struct error *error = NULL;
	ssize_t got;

	if (mnl_socket_sendto(netlink->socket, request, request->nlmsg_len) < 0)
		return error_new(errno, "sendto(AF_NETLINK, list)");
	do {
		got = receive(netlink, 0);
		if (got < 0) {
			keep_first(&error, error_new(errno, "recv(AF_NETLINK, list)"));
			return error;
		}
	} while (!take_list(netlink, got, each, context, &error));
	return error;
}

struct error *netlink_ask(struct netlink *netlink, const struct nlmsghdr *request, netlink_each *each, void *context)
{
	const struct nlmsghdr *answer = (const struct nlmsghdr *)netlink->answer;

	if (mnl_socket_sendto(netlink->socket, request, request->nlmsg_len) < 0)
		return error_new(errno, "sendto(AF_NETLINK, question)");
	ssize_t got = receive(netlink, 0);
	if (got < 0)
		return error_new(errno, "recv(AF_NETLINK, answer)");
	if (!mnl_nlmsg_ok(answer, (int)got))
		return error_new(EBADMSG, "netlink answer of %zd bytes", got);
	return answer->nlmsg_type == NLMSG_ERROR ? refusal(answer) : each(answer, context);
}

/* attribute, if there is a whole one before end. */
static const struct nlattr *checked(const struct nlattr *attribute, const char *end)
{
	ptrdiff_t left = end - (const char *)attribute;

	return left > 0 && mnl_attr_ok(attribute, (int)left) ? attribute : NULL;
}

const struct nlattr *netlink_attribute(const struct nlmsghdr *message, size_t header_bytes, uint16_t type)
{
	const char *end = mnl_nlmsg_get_payload_tail(message);
	const struct nlattr *attribute = checked(mnl_nlmsg_get_payload_offset(message, header_bytes), end);

	while (attribute && mnl_attr_get_type(attribute) != type)
		attribute = checked(mnl_attr_next(attribute), end);
	return attribute;
}

const struct nlattr *netlink_next_nested(const struct nlattr *parent, const struct nlattr *previous)
{
	const char *begin = mnl_attr_get_payload(parent);
	const char *end = begin + mnl_attr_get_payload_len(parent);

	return checked(previous ? mnl_attr_next(previous) : mnl_attr_get_payload(parent), end);
}

const struct nlattr *netlink_nested(const struct nlattr *parent, uint16_t type)
{
	const struct nlattr *attribute = parent ? netlink_next_nested(parent, NULL) : NULL;

	while (attribute && mnl_attr_get_type(attribute) != type)
		attribute = netlink_next_nested(parent, attribute);
	return attribute;
}
