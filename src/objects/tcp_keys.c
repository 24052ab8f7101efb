/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "objects/tcp_keys.h"
#include "util/netlink.h"

enum {
	REQUEST_BYTES = 256,
	AO_INFO = 40,        /* TCP_AO_INFO, Linux 6.7 */
	AO_INFO_BYTES = 128, /* more than it has, so that a later one fits, too */
};

/* getsockopt(2) tells no key, but sock_diag(7) does, to those who may administrate the network: Linux 4.14. */
static struct error *take_answer(const struct nlmsghdr *answer, void *context)
{
	bool *has_keys = context;

	*has_keys = netlink_attribute(answer, sizeof(struct inet_diag_msg), INET_DIAG_MD5SIG);
	return NULL;
}

static struct inet_diag_sockid id_of(int fd, const union socket_address *own, const union socket_address *peer)
{
	struct inet_diag_sockid id = {
		.idiag_sport = socket_port(own),
		.idiag_dport = socket_port(peer),
		.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
	};
	char device[IF_NAMESIZE] = "";
	socklen_t size = sizeof(device);

	socket_address_words(own, id.idiag_src);
	socket_address_words(peer, id.idiag_dst);
	if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &size) == 0 && device[0])
		id.idiag_if = if_nametoindex(device);
	return id;
}

static struct error *has_md5_keys(struct open_files *files, const struct inet_diag_sockid *id, sa_family_t family,
                                  bool *ret_has_keys)
{
	char buffer[REQUEST_BYTES] = {0};

	*ret_has_keys = false;
	if (!files->diag)
		TRY(netlink_open(NETLINK_SOCK_DIAG, &files->diag));
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *body = mnl_nlmsg_put_extra_header(request, sizeof(*body));
	request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	request->nlmsg_seq = netlink_next_sequence(files->diag);
	body->sdiag_family = (uint8_t)family;
	body->sdiag_protocol = IPPROTO_TCP;
	body->idiag_ext = 1 << (INET_DIAG_INFO - 1); /* without it, what a protocol has to add isn't told */
	body->idiag_states = UINT32_MAX;
	body->id = *id;
	auto_error struct error *error = netlink_dump(files->diag, request, take_answer, ret_has_keys);
	/* It has just ended, or isn't bound yet. */
	return error && error_errnum(error) == ENOENT ? NULL : take(error);
}

struct error *tcp_keys_check(struct open_files *files, int fd, const union socket_address *own,
                             const union socket_address *peer)
{
	uint64_t ao_info[AO_INFO_BYTES / sizeof(uint64_t)] = {0};
	socklen_t size = sizeof(ao_info);
	const struct inet_diag_sockid id = id_of(fd, own, peer);
	bool has_keys;

	TRY(has_md5_keys(files, &id, own->any.sa_family, &has_keys), "sock_diag of a TCP socket");
	if (has_keys)
		return error_hint(error_new(ENOTSUP, "TCP socket with keys that sign its segments (TCP_MD5SIG)"),
		                  "secrets are not written into images: take the keys out, or move it without this "
		                  "connection");
	if (getsockopt(fd, IPPROTO_TCP, AO_INFO, ao_info, &size) == 0)
		return error_hint(error_new(ENOTSUP, "TCP socket with keys that sign its segments (TCP-AO)"),
		                  "secrets are not written into images: take the keys out, or move it without this "
		                  "connection");
	return NULL;
}
