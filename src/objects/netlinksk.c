/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sockets to the kernel: netlink(7).
 *
 * Carried: bus, address (port), groups, where it is connected to, options, filter. What it talks about (links, routes,
 * devices) belongs to a host and isn't carried: the program hears of the next host from then on.
 *
 * Traps: a message can't be put back into the queue, so none may wait. Only sock_diag(7) tells whether a socket is
 * connected to the kernel, whose port is 0, and so hears nobody else. Buses on which the kernel keeps something for a
 * socket (rules, queues of packets, an audit daemon) are refused. Families and groups of NETLINK_GENERIC have other
 * numbers on other hosts: netlink_generic.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/netlink_diag.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "objects/netlink_generic.h"
#include "objects/socket.h"
#include "objects/socket_options.h"
#include "util/alloc.h"
#include "util/netlink.h"

enum { UNCONNECTED = 7, CONNECTED = 1 }; /* sk_state of Linux; 0 is one that was connected */

enum {
	REQUEST_BYTES = 64,
	GROUP_WORDS_MAX = 256, /* NETLINK_GENERIC has the most, a few hundred groups */
	SHORT_GROUPS = 32,     /* sockaddr_nl has a bit for each of them */
};

static const struct {
	int bus;
	const char *name;
} buses[] = {
	{NETLINK_ROUTE, "NETLINK_ROUTE"},     {NETLINK_SOCK_DIAG, "NETLINK_SOCK_DIAG"},
	{NETLINK_AUDIT, "NETLINK_AUDIT"},     {NETLINK_KOBJECT_UEVENT, "NETLINK_KOBJECT_UEVENT"},
	{NETLINK_GENERIC, "NETLINK_GENERIC"},
};

/* NULL: not one that is carried. */
static const char *bus_name(int bus)
{
	for (size_t i = 0; i < sizeof(buses) / sizeof(buses[0]); i++)
		if (buses[i].bus == bus)
			return buses[i].name;
	return NULL;
}

static bool netlinksk_recognizes(const struct open_file *file)
{
	struct socket_kind kind;

	return socket_kind_of(file, &kind) && kind.family == AF_NETLINK;
}

/* ---- Looking ---- */

struct look {
	int fd; /* borrowed */
	struct socket_kind kind;
	struct sockaddr_nl own, peer;
	uint32_t groups[GROUP_WORDS_MAX];
	size_t group_words; /* up to the last one that has a bit */
};

static struct error *read_groups(struct look *look)
{
	socklen_t size = sizeof(look->groups);

	if (getsockopt(look->fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, look->groups, &size) < 0)
		return error_new(errno, "getsockopt(NETLINK_LIST_MEMBERSHIPS)");
	if (size > sizeof(look->groups))
		return error_new(EFBIG, "netlink socket of a bus with %u groups", size * 8);
	look->group_words = size / sizeof(look->groups[0]);
	while (look->group_words > 0 && look->groups[look->group_words - 1] == 0)
		look->group_words--;
	return NULL;
}

static struct error *look_at(const struct open_file *file, struct look *look)
{
	socklen_t own_bytes = sizeof(look->own);
	socklen_t peer_bytes = sizeof(look->peer);

	memset(look, 0, sizeof(*look));
	TRY(open_file_borrow(file, &look->fd));
	int r = socket_get(look->fd, SOL_SOCKET, SO_PROTOCOL, &look->kind.protocol);
	if (r == 0)
		r = socket_get(look->fd, SOL_SOCKET, SO_TYPE, &look->kind.type);
	if (r < 0)
		return error_new(-r, "getsockopt(SO_PROTOCOL, SO_TYPE)");
	if (getsockname(look->fd, (struct sockaddr *)&look->own, &own_bytes) < 0 ||
	    getpeername(look->fd, (struct sockaddr *)&look->peer, &peer_bytes) < 0)
		return error_new(errno, "getsockname, getpeername");
	return read_groups(look);
}

/* A message, or an error that says that some were lost. Looking by poll(2) takes nothing and makes none. */
static struct error *check_unread(const struct look *look)
{
	struct pollfd poll_fd = {.fd = look->fd, .events = POLLIN};

	if (poll(&poll_fd, 1, 0) < 0)
		return error_new(errno, "poll");
	if (!(poll_fd.revents & (POLLIN | POLLERR)))
		return NULL;
	return error_hint(
		error_new(ENOTSUP, "%s socket from which a message waits to be read", bus_name(look->kind.protocol)),
		"try again when the program has read it");
}

/* ---- Before the freeze ---- */

static struct error *take_status(const struct nlmsghdr *answer, void *context)
{
	struct audit_status *status = context;
	size_t size_bytes = mnl_nlmsg_get_payload_len(answer);

	memcpy(status, mnl_nlmsg_get_payload(answer), size_bytes < sizeof(*status) ? size_bytes : sizeof(*status));
	return NULL;
}

/* The process that the kernel sends all audit events to, by its registered socket. */
static struct error *check_audit_daemon(const struct open_file *file)
{
	char buffer[REQUEST_BYTES] = {0};
	auto_netlink struct netlink *netlink = NULL;
	struct audit_status status = {0};

	TRY(netlink_open(NETLINK_AUDIT, &netlink));
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	request->nlmsg_type = AUDIT_GET;
	request->nlmsg_flags = NLM_F_REQUEST;
	request->nlmsg_seq = netlink_next_sequence(netlink);
	auto_error struct error *error = netlink_ask(netlink, request, take_status, &status);
	/* Only in the first namespaces is there a daemon, and only there may we ask. */
	if (error || status.pid != (uint32_t)file->pid)
		return NULL;
	return error_hint(error_new(ENOTSUP, "socket of this host's audit daemon (NETLINK_AUDIT)"),
	                  "it belongs to this host: stop it here and start one over there");
}

static struct error *netlinksk_check(const struct open_file *file)
{
	auto_socket_options struct socket_options options = {0};
	struct look look;

	TRY(look_at(file, &look));
	if (!bus_name(look.kind.protocol))
		return error_hint(error_new(ENOTSUP, "a netlink socket of bus %d", look.kind.protocol),
		                  "the kernel keeps state for it that stays on this host: close it before the program "
		                  "is moved");
	if (look.peer.nl_pid)
		return error_hint(error_new(ENOTSUP, "%s socket connected to port %u, another process",
		                            bus_name(look.kind.protocol), look.peer.nl_pid),
		                  "that process stays here: close it before the program is moved");
	TRY(socket_check_network(look.fd));
	TRY(check_unread(&look));
	if (look.kind.protocol == NETLINK_AUDIT)
		TRY(check_audit_daemon(file));
	return socket_options_save(look.fd, SOCKET_NETLINK, &options);
}

/* ---- Saving ---- */

struct search {
	uint32_t inode;
	uint8_t state;
	bool is_found;
};

static struct error *compare(const struct nlmsghdr *answer, void *context)
{
	const struct netlink_diag_msg *header = mnl_nlmsg_get_payload(answer);
	struct search *search = context;

	if (mnl_nlmsg_get_payload_len(answer) < sizeof(*header))
		return error_new(EBADMSG, "sock_diag answer of %u bytes", answer->nlmsg_len);
	if (header->ndiag_ino == search->inode) {
		search->state = header->ndiag_state;
		search->is_found = true;
	}
	return NULL;
}

static struct error *state_of(const struct open_file *file, const struct look *look, uint32_t *ret_state)
{
	char buffer[REQUEST_BYTES] = {0};
	struct search search = {.inode = (uint32_t)file->stat.st_ino};

	*ret_state = UNCONNECTED;
	if (look->own.nl_pid == 0) /* connecting gives it a port; and without one it isn't told */
		return NULL;
	if (!file->all->diag)
		TRY(netlink_open(NETLINK_SOCK_DIAG, &file->all->diag));
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = netlink_next_sequence(file->all->diag);
	struct netlink_diag_req *wanted = mnl_nlmsg_put_extra_header(request, sizeof(*wanted));
	wanted->sdiag_family = AF_NETLINK;
	wanted->sdiag_protocol = (uint8_t)look->kind.protocol;
	TRY(error_wrap(netlink_dump(file->all->diag, request, compare, &search), "sock_diag of netlink sockets"));
	if (!search.is_found)
		return error_new(ENOENT, "sock_diag doesn't tell of netlink socket %u", search.inode);
	*ret_state = search.state;
	return NULL;
}

/* What only sockets.godwit says. */
static struct error *save_extras(const struct open_file *file, const struct look *look, struct image_store *store)
{
	GodwitSocketEntry extras = GODWIT_SOCKET_ENTRY__INIT;

	extras.has_type = look->kind.type != SOCK_RAW;
	extras.type = (uint32_t)look->kind.type;
	if (look->kind.protocol == NETLINK_GENERIC)
		TRY(netlink_generic_save(look->groups, look->group_words, &extras));
	struct error *error = socket_extras_save(look->fd, file, SOCKET_NETLINK, &extras, store);
	netlink_generic_free(&extras);
	return error;
}

static struct error *netlinksk_save(const struct open_file *file, struct image_store *store)
{
	NetlinkSkEntry socket = NETLINK_SK_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	struct look look;
	auto_socket_options struct socket_options options = {0};

	TRY(look_at(file, &look));
	TRY(check_unread(&look));
	TRY(socket_options_save(look.fd, SOCKET_NETLINK, &options));
	TRY(save_extras(file, &look, store));
	TRY(state_of(file, &look, &socket.state));
	socket.id = file->id;
	socket.ino = (uint32_t)file->stat.st_ino;
	socket.protocol = (uint32_t)look.kind.protocol;
	socket.flags = file->status_flags;
	socket.portid = look.own.nl_pid;
	socket.n_groups = look.group_words;
	socket.groups = look.groups;
	socket.dst_group = (uint32_t)ffs((int)look.peer.nl_groups);
	socket.fown = file->owner;
	socket.opts = &options.entry;
	entry.type = FD_TYPES__NETLINKSK;
	entry.id = file->id;
	entry.nlsk = &socket;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

/* ---- Restoring ---- */

static struct error *check_entry(const FileEntry *file)
{
	const NetlinkSkEntry *entry = file->nlsk;

	if (!entry)
		return error_new(EBADMSG, "file entry of type netlinksk without a socket");
	if (!bus_name((int)entry->protocol) || entry->dst_portid || entry->dst_group > SHORT_GROUPS ||
	    entry->n_groups > GROUP_WORDS_MAX)
		return error_new(ENOTSUP, "netlink socket of bus %u, connected to port %u, group %u", entry->protocol,
		                 entry->dst_portid, entry->dst_group);
	return NULL;
}

static struct error *bind_to(int fd, const NetlinkSkEntry *entry)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = entry->portid};

	if (entry->portid == 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return NULL;
	return error_hint(error_new(errno, "%s socket: bind to port %u", bus_name((int)entry->protocol), entry->portid),
	                  "another program may have the port: /proc/net/netlink shows it");
}

static struct error *join_groups(int fd, const NetlinkSkEntry *entry)
{
	for (uint32_t number = 1; number <= entry->n_groups * 32; number++)
		if (entry->groups[(number - 1) / 32] >> (number - 1) % 32 & 1)
			TRY(socket_set(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)number, "NETLINK_ADD_MEMBERSHIP"),
			    "%s socket", bus_name((int)entry->protocol));
	return NULL;
}

static struct error *connect_to(int fd, const NetlinkSkEntry *entry)
{
	const struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = entry->dst_group ? 1U << (entry->dst_group - 1) : 0,
	};

	if (entry->state != CONNECTED || connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return NULL;
	return error_new(errno, "%s socket: connect to group %u", bus_name((int)entry->protocol), entry->dst_group);
}

/* Groups last: nothing comes in that the filter would have dropped. */
static struct error *make(const NetlinkSkEntry *entry, const GodwitSocketEntry *extras, int *ret_fd)
{
	int type = extras && extras->has_type ? (int)extras->type : SOCK_RAW;

	if (type != SOCK_RAW && type != SOCK_DGRAM)
		return error_new(EBADMSG, "netlink socket of type %d", type);
	auto_fd int fd = socket(AF_NETLINK, type | SOCK_CLOEXEC, (int)entry->protocol);
	if (fd < 0)
		return error_new(errno, "socket(%s)", bus_name((int)entry->protocol));
	TRY(socket_options_restore(fd, entry->opts));
	TRY(socket_extras_restore(fd, extras, SOCKET_NETLINK));
	TRY(socket_options_finish(fd, entry->opts));
	TRY(socket_extras_finish(fd, extras, SOCKET_NETLINK));
	TRY(bind_to(fd, entry));
	TRY(connect_to(fd, entry));
	TRY(join_groups(fd, entry));
	*ret_fd = take(fd);
	return NULL;
}

/* Made for a trial. */
static struct error *netlinksk_preflight(const FileEntry *file, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	auto_fd int fd = -1;

	TRY(check_entry(file));
	TRY(socket_extras_find(restore, file->nlsk->id, &extras));
	TRY(netlink_generic_check(extras));
	return make(file->nlsk, extras, &fd);
}

static struct error *netlinksk_restore(const FileEntry *file, struct restore_files *restore, struct batch *batch,
                                       struct made_file *ret_made)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	int fd;

	(void)batch;
	TRY(check_entry(file));
	TRY(socket_extras_find(restore, file->nlsk->id, &extras));
	TRY(make(file->nlsk, extras, &fd));
	*ret_made = (struct made_file){
		.local_fd = fd,
		.status_flags = file->nlsk->flags & ~(uint32_t)O_ACCMODE,
		.owner = file->nlsk->fown,
	};
	return NULL;
}

const struct file_ops netlinksk_ops = {
	.name = "netlinksk",
	.type = FD_TYPES__NETLINKSK,
	.recognizes = netlinksk_recognizes,
	.check = netlinksk_check,
	.save = netlinksk_save,
	.preflight = netlinksk_preflight,
	.restore = netlinksk_restore,
};
