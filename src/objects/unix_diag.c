/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "objects/unix_diag.h"
#include "util/netlink.h"

enum { REQUEST_BYTES = 256 };

static struct nlmsghdr *begin_request(void *buffer, struct netlink *netlink, uint16_t flags,
                                      const struct unix_diag_req *wanted)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct unix_diag_req *body = mnl_nlmsg_put_extra_header(request, sizeof(*body));

	request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	request->nlmsg_seq = netlink_next_sequence(netlink);
	*body = *wanted;
	return request;
}

/* A number behind an answer's header. */
static bool take_number(const struct nlmsghdr *answer, uint16_t type, void *ret_value, size_t size_bytes)
{
	const struct nlattr *attribute = netlink_attribute(answer, sizeof(struct unix_diag_msg), type);

	if (!attribute || mnl_attr_get_payload_len(attribute) < size_bytes)
		return false;
	memcpy(ret_value, mnl_attr_get_payload(attribute), size_bytes);
	return true;
}

static struct error *take_answer(const struct nlmsghdr *answer, void *context)
{
	const struct unix_diag_msg *header = mnl_nlmsg_get_payload(answer);
	struct unix_diag *diag = context;
	struct unix_diag_rqlen queue = {0};
	struct unix_diag_vfs path;

	if (mnl_nlmsg_get_payload_len(answer) < sizeof(*header))
		return error_new(EBADMSG, "sock_diag answer of %u bytes", answer->nlmsg_len);
	diag->type = header->udiag_type;
	diag->state = header->udiag_state;
	diag->has_peer = take_number(answer, UNIX_DIAG_PEER, &diag->peer, sizeof(diag->peer));
	take_number(answer, UNIX_DIAG_SHUTDOWN, &diag->shut, sizeof(diag->shut));
	diag->has_path = take_number(answer, UNIX_DIAG_VFS, &path, sizeof(path));
	take_number(answer, UNIX_DIAG_RQLEN, &queue, sizeof(queue));
	diag->queue = queue.udiag_rqueue;
	diag->backlog = queue.udiag_wqueue;
	return NULL;
}

struct error *unix_diag_ask(struct open_files *files, uint64_t inode, struct unix_diag *ret_diag)
{
	char buffer[REQUEST_BYTES] = {0};
	const struct unix_diag_req wanted = {
		.sdiag_family = AF_UNIX,
		.udiag_states = UINT32_MAX,
		.udiag_ino = (uint32_t)inode,
		.udiag_show = UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN,
		.udiag_cookie = {UINT32_MAX, UINT32_MAX}, /* INET_DIAG_NOCOOKIE: whichever has that inode */
	};

	if (!files->diag)
		TRY(netlink_open(NETLINK_SOCK_DIAG, &files->diag));
	*ret_diag = (struct unix_diag){0};
	return error_wrap(netlink_dump(files->diag, begin_request(buffer, files->diag, NLM_F_ACK, &wanted), take_answer,
	                               ret_diag),
	                  "sock_diag of UNIX socket %u", wanted.udiag_ino);
}

/* ---- Who is bound to a file ---- */

struct search {
	uint32_t inode, device;
	bool is_found;
};

static struct error *compare(const struct nlmsghdr *answer, void *context)
{
	struct search *search = context;
	struct unix_diag_vfs path;

	if (take_number(answer, UNIX_DIAG_VFS, &path, sizeof(path)) && path.udiag_vfs_ino == search->inode &&
	    path.udiag_vfs_dev == search->device)
		search->is_found = true;
	return NULL;
}

struct error *unix_diag_is_bound(const struct stat *file, bool *ret_is_bound)
{
	char buffer[REQUEST_BYTES] = {0};
	auto_netlink struct netlink *netlink = NULL;
	const struct unix_diag_req wanted = {
		.sdiag_family = AF_UNIX,
		.udiag_states = UINT32_MAX,
		.udiag_show = UDIAG_SHOW_VFS,
	};
	/* As the kernel writes a device into 32 bits. */
	struct search search = {
		.inode = (uint32_t)file->st_ino,
		.device = major(file->st_dev) << 20 | minor(file->st_dev),
	};

	TRY(netlink_open(NETLINK_SOCK_DIAG, &netlink));
	TRY(netlink_dump(netlink, begin_request(buffer, netlink, NLM_F_DUMP, &wanted), compare, &search));
	*ret_is_bound = search.is_found;
	return NULL;
}
