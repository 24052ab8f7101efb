/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * TCP and UDP sockets over IPv4 and IPv6: tcp(7), udp(7).
 *
 * Carried: addresses, options, listening sockets with their backlog, connections with all that is in their queues
 * (tcp.h), half closed ones. Of multipath TCP the listening sockets, whose connections with peers that know plain TCP
 * only are plain. UDP sockets keep their addresses, and what waits in them (udp_queue.h).
 *
 * Traps: a connection that waits to be accepted belongs to no descriptor and can't be carried: the freeze waits until
 * there is none. A port that a connection has can be bound for a listener only in repair mode, or with SO_REUSEADDR.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "objects/inet_look.h"
#include "objects/multicast.h"
#include "objects/tcp.h"
#include "objects/udp_queue.h"
#include "util/alloc.h"

#define HINT_PORT \
	"another program may have the port, or connections that have just ended, for a minute: ss -antup shows them"

enum { CLOSE = 7, LISTEN = 10, BACKLOG_MAX = 1 << 20 };

static bool inetsk_recognizes(const struct open_file *file)
{
	struct socket_kind kind;

	if (!socket_kind_of(file, &kind) || (kind.family != AF_INET && kind.family != AF_INET6))
		return false;
	return (kind.type == SOCK_STREAM && inet_is_tcp_protocol((uint32_t)kind.protocol)) ||
	       (kind.type == SOCK_DGRAM && (kind.protocol == IPPROTO_UDP || kind.protocol == IPPROTO_UDPLITE));
}

/* ---- Before the freeze ---- */

static struct error *inetsk_check(const struct open_file *file)
{
	auto_socket_options struct socket_options options = {0};
	struct inet_look look;

	TRY(inet_look_at(file, &look));
	TRY(socket_check_network(look.fd));
	TRY(socket_options_save(look.fd, SOCKET_TCP, &options)); /* what is attached can be read? */
	return inet_look_check(file, &look);
}

/* ---- The lock ---- */

static bool inetsk_needs_lock(const struct open_file *file)
{
	struct tcp_socket_state tcp;
	int fd;
	auto_error struct error *error = open_file_borrow(file, &fd);

	/* Not of UDP. */
	return !error && tcp_has_state(fd, &tcp) && (tcp.state == LISTEN || tcp_is_connection(tcp.state));
}

/* Of one that needs the lock. Asked again and again while the program stands still: no more calls than needed. */
static struct error *inetsk_unsent(const struct open_file *file, struct unsent *ret_unsent)
{
	struct tcp_socket_state tcp;
	int fd;
	int bytes = 0;

	TRY(open_file_borrow(file, &fd));
	if (ioctl(fd, SIOCOUTQ, &bytes) == 0) {
		ret_unsent->bytes += (uint64_t)bytes;
		return NULL;
	}
	if (errno != EINVAL) /* a listener has no queue: tcp(7) */
		return error_new(errno, "ioctl(SIOCOUTQ)");
	TRY(tcp_state(fd, &tcp));
	if (tcp.state == LISTEN)
		ret_unsent->connections += tcp.waiting;
	return NULL;
}

static void put_address(const union socket_address *address, uint8_t ret_bytes[16], sa_family_t *ret_family)
{
	uint32_t words[4] = {0};
	bool is_v4 = address->any.sa_family == AF_INET;

	socket_address_words(address, words);
	*ret_family = address->any.sa_family;
	memset(ret_bytes, 0, 16);
	if (!is_v4 && IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr)) {
		*ret_family = AF_INET;
		memcpy(ret_bytes, &words[3], sizeof(words[3]));
		return;
	}
	memcpy(ret_bytes, words, is_v4 ? sizeof(words[0]) : sizeof(words));
}

static void flow_of(const union socket_address *own, const union socket_address *peer, bool is_listener,
                    struct flow *ret_flow)
{
	sa_family_t family;

	*ret_flow = (struct flow){.is_listener = is_listener, .local_port = socket_port(own)};
	put_address(own, ret_flow->local_address, &ret_flow->family);
	if (is_listener)
		return;
	ret_flow->remote_port = socket_port(peer);
	put_address(peer, ret_flow->remote_address, &family);
}

static struct error *inetsk_flow(const struct open_file *file, struct flow *ret_flow)
{
	union socket_address own;
	union socket_address peer;
	int fd;

	TRY(open_file_borrow(file, &fd));
	TRY(socket_addresses(fd, &own, &peer));
	flow_of(&own, &peer, socket_port(&peer) == 0, ret_flow);
	return NULL;
}

/* ---- Saving ---- */

static bool get_bool(int fd, int level, int name)
{
	int value;

	return socket_get(fd, level, name, &value) == 0 && value != 0;
}

static void read_ip_options(const struct inet_look *look, IpOptsEntry *entry)
{
	int value;

	ip_opts_entry__init(entry);
	entry->has_freebind = true;
	entry->freebind = get_bool(look->fd, IPPROTO_IP, IP_FREEBIND);
	entry->has_pktinfo = true;
	entry->pktinfo = get_bool(look->fd, IPPROTO_IP, IP_PKTINFO);
	entry->has_tos = socket_get(look->fd, IPPROTO_IP, IP_TOS, &value) == 0;
	entry->tos = (uint32_t)value;
	entry->has_ttl = socket_get(look->fd, IPPROTO_IP, IP_TTL, &value) == 0;
	entry->ttl = (uint32_t)value;
}

static void read_tcp_options(const struct inet_look *look, TcpOptsEntry *entry)
{
	int value;

	tcp_opts_entry__init(entry);
	entry->has_cork = true;
	entry->cork = get_bool(look->fd, IPPROTO_TCP, TCP_CORK);
	entry->has_nodelay = true;
	entry->nodelay = get_bool(look->fd, IPPROTO_TCP, TCP_NODELAY);
	entry->has_keepcnt = socket_get(look->fd, IPPROTO_TCP, TCP_KEEPCNT, &value) == 0;
	entry->keepcnt = (uint32_t)value;
	entry->has_keepidle = socket_get(look->fd, IPPROTO_TCP, TCP_KEEPIDLE, &value) == 0;
	entry->keepidle = (uint32_t)value;
	entry->has_keepintvl = socket_get(look->fd, IPPROTO_TCP, TCP_KEEPINTVL, &value) == 0;
	entry->keepintvl = (uint32_t)value;
}

static enum socket_traits traits_of(uint32_t family, uint32_t protocol, bool is_connected)
{
	return (family == AF_INET6 ? SOCKET_IPV6 : SOCKET_IPV4) |
	       (inet_is_tcp_protocol(protocol) ? SOCKET_TCP | (is_connected ? SOCKET_CONNECTED : 0) : SOCKET_UDP);
}

/* Where what an entry points to lives while it is put into the image. */
struct entry_parts {
	uint32_t own_words[4], peer_words[4];
	IpOptsEntry ip;
	TcpOptsEntry tcp;
	char interface[IF_NAMESIZE];
};

static void fill_addresses(const struct inet_look *look, InetSkEntry *socket, struct entry_parts *parts)
{
	const struct sockaddr_in6 *own = &look->own.v6;

	socket->src_port = ntohs(socket_port(&look->own));
	socket->dst_port = ntohs(socket_port(&look->peer));
	socket->n_src_addr = socket_address_words(&look->own, parts->own_words);
	socket->src_addr = parts->own_words;
	socket->n_dst_addr = socket_address_words(&look->peer, parts->peer_words);
	socket->dst_addr = parts->peer_words;
	if (own->sin6_family == AF_INET6 && own->sin6_scope_id && if_indextoname(own->sin6_scope_id, parts->interface))
		socket->ifname = parts->interface;
}

/* All that is asked of a socket, but for what takes repair mode. */
struct answers {
	struct inet_look look;
	struct socket_options options;
	struct socket_extras extras;
	struct entry_parts parts;
	bool is_v6only;
};

static struct error *inetsk_read(const struct open_file *file, void *ret_answers)
{
	struct answers *answers = ret_answers;
	struct inet_look *look = &answers->look;

	TRY(inet_look_at(file, look));
	enum socket_traits traits = traits_of((uint32_t)look->kind.family, (uint32_t)look->kind.protocol,
	                                      inet_look_is_connection(look) || look->tcp.was_connected);
	TRY(socket_options_save(look->fd, traits, &answers->options));
	socket_extras_read(look->fd, traits, &answers->extras);
	read_ip_options(look, &answers->parts.ip);
	answers->is_v6only = look->kind.family == AF_INET6 && get_bool(look->fd, IPPROTO_IPV6, IPV6_V6ONLY);
	if (inet_look_is_tcp(look))
		read_tcp_options(look, &answers->parts.tcp);
	return NULL;
}

static void inetsk_free_answers(void *answers)
{
	socket_options_free(&((struct answers *)answers)->options);
}

static void fill(const struct open_file *file, struct answers *answers, InetSkEntry *socket)
{
	const struct inet_look *look = &answers->look;

	socket->id = file->id;
	socket->ino = (uint32_t)file->stat.st_ino;
	socket->family = (uint32_t)look->kind.family;
	socket->type = (uint32_t)look->kind.type;
	socket->proto = (uint32_t)look->kind.protocol;
	socket->state = look->tcp.state;
	socket->flags = file->status_flags;
	socket->backlog = look->tcp.state == LISTEN ? look->tcp.backlog : 0;
	socket->fown = file->owner;
	fill_addresses(look, socket, &answers->parts);
	socket->opts = &answers->options.entry;
	socket->ip_opts = &answers->parts.ip;
	socket->has_v6only = look->kind.family == AF_INET6;
	socket->v6only = answers->is_v6only;
	if (inet_look_is_tcp(look))
		socket->tcp_opts = &answers->parts.tcp;
}

/* What only sockets.godwit says. */
static struct error *put_extras(const struct open_file *file, const struct answers *answers, struct image_store *store)
{
	const struct inet_look *look = &answers->look;
	GodwitSocketEntry extras = GODWIT_SOCKET_ENTRY__INIT;
	struct error *error = inet_look_is_tcp(look) ? NULL : multicast_save(file, look->fd, &extras);

	extras.has_is_reset = inet_look_is_tcp(look) && inet_look_has_failed(look);
	extras.is_reset = extras.has_is_reset;
	if (!error)
		socket_extras_put(&answers->extras, file, &extras, store);
	multicast_free(&extras);
	return error;
}

static struct error *put(const struct open_file *file, struct answers *answers, struct image_store *store)
{
	InetSkEntry socket = INET_SK_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	struct inet_look *look = &answers->look;

	/* It may have changed since it was read, by a timer. */
	if (inet_look_is_tcp(look))
		TRY(tcp_state(look->fd, &look->tcp));
	TRY(inet_look_check_again(look));
	TRY(put_extras(file, answers, store));
	if (look->kind.protocol == IPPROTO_UDP && !file->all->is_sketch)
		TRY(udp_queue_save(look->fd, file->stat.st_ino, store));
	fill(file, answers, &socket);
	if (inet_look_is_connection(look))
		TRY(tcp_save(look->fd, &look->tcp, socket.ino, store));
	else if (look->kind.protocol == IPPROTO_TCP && inet_look_has_ended(look))
		TRY(tcp_save_ended(look->fd, socket.ino, store));
	entry.type = FD_TYPES__INETSK;
	entry.id = file->id;
	entry.isk = &socket;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static struct error *inetsk_save(const struct open_file *file, struct image_store *store)
{
	struct answers own = {0};

	if (file->answers)
		return put(file, file->answers, store);
	struct error *error = inetsk_read(file, &own);
	if (!error)
		error = put(file, &own, store);
	inetsk_free_answers(&own);
	return error;
}

/* Repair mode overwrites SO_REUSEADDR: tcp_setsockopt() of Linux. */
/* What waits in a UDP socket comes and goes: it is looked at once, together with connections. */
static bool inetsk_needs_hold(const struct open_file *file)
{
	struct inet_look look;
	auto_error struct error *error = inet_look_at(file, &look);

	return !error && !inet_look_is_tcp(&look);
}

static struct error *hold_datagrams(const struct open_file *file, int fd, int *ret_fd, uint32_t *ret_before)
{
	int before;

	if (!udp_queue_is_waiting(fd))
		return NULL;
	TRY(socket_peek_offset(fd, &before));
	*ret_before = (uint32_t)before;
	return open_file_copy(file, ret_fd);
}

static struct error *inetsk_hold(const struct open_file *file, int *ret_fd, uint32_t *ret_before)
{
	struct tcp_socket_state tcp;
	int fd;
	int reuse;

	*ret_fd = -1;
	TRY(open_file_borrow(file, &fd));
	if (!tcp_has_state(fd, &tcp))
		return hold_datagrams(file, fd, ret_fd, ret_before);
	if (!tcp_is_connection(tcp.state))
		return NULL;
	int r = socket_get(fd, SOL_SOCKET, SO_REUSEADDR, &reuse);
	if (r < 0)
		return error_new(-r, "getsockopt(SO_REUSEADDR)");
	*ret_before = reuse != 0;
	return open_file_copy(file, ret_fd);
}

static struct error *inetsk_go_on(int fd, uint32_t before)
{
	struct tcp_socket_state tcp;

	if (!tcp_has_state(fd, &tcp))
		return socket_set_peek_offset(fd, (int)before);
	if (!tcp_is_held(fd))
		return NULL;
	TRY(tcp_go_on(fd));
	return socket_set(fd, SOL_SOCKET, SO_REUSEADDR, (int)before, "SO_REUSEADDR");
}

/* ---- Restoring ---- */

struct restored {
	const InetSkEntry *entry;
	union socket_address own, peer;
	enum socket_traits traits;
	bool is_connection;
};

static struct error *read_entry(const FileEntry *file, struct restored *restored)
{
	const InetSkEntry *entry = file->isk;

	if (!entry)
		return error_new(EBADMSG, "file entry of type inetsk without a socket");
	bool is_tcp_entry = inet_is_tcp_protocol(entry->proto) && entry->type == SOCK_STREAM;
	bool is_udp_entry =
		(entry->proto == IPPROTO_UDP || entry->proto == IPPROTO_UDPLITE) && entry->type == SOCK_DGRAM;
	if ((entry->family != AF_INET && entry->family != AF_INET6) || !(is_tcp_entry || is_udp_entry) ||
	    entry->src_port > UINT16_MAX || entry->dst_port > UINT16_MAX || entry->backlog > BACKLOG_MAX)
		return error_new(EBADMSG, "socket of family %u, type %u, protocol %u", entry->family, entry->type,
		                 entry->proto);
	restored->entry = entry;
	restored->is_connection = entry->proto == IPPROTO_TCP && tcp_is_connection(entry->state);
	restored->traits = traits_of(entry->family, entry->proto, restored->is_connection);
	if (is_tcp_entry && !restored->is_connection && entry->state != CLOSE && entry->state != LISTEN)
		return error_new(ENOTSUP, "TCP socket in state %u", entry->state);
	if (!socket_address_of(entry->family, entry->src_addr, entry->n_src_addr, htons((uint16_t)entry->src_port),
	                       entry->ifname, &restored->own) ||
	    !socket_address_of(entry->family, entry->dst_addr, entry->n_dst_addr, htons((uint16_t)entry->dst_port),
	                       entry->ifname, &restored->peer))
		return error_new(EBADMSG, "socket addresses of %zu and %zu words", entry->n_src_addr,
		                 entry->n_dst_addr);
	return NULL;
}

static bool inetsk_entry_flow(const FileEntry *file, struct flow *ret_flow)
{
	struct restored restored;
	auto_error struct error *error = read_entry(file, &restored);

	if (error || !inet_is_tcp_protocol(restored.entry->proto) || restored.entry->state == CLOSE)
		return false;
	flow_of(&restored.own, &restored.peer, restored.entry->state == LISTEN, ret_flow);
	return true;
}

static struct error *restore_ip_options(int fd, const InetSkEntry *entry)
{
	const IpOptsEntry *ip = entry->ip_opts;

	if (entry->has_v6only)
		TRY(socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, entry->v6only, "IPV6_V6ONLY"));
	if (!ip)
		return NULL;
	if (ip->has_freebind && ip->freebind)
		TRY(socket_set(fd, IPPROTO_IP, IP_FREEBIND, 1, "IP_FREEBIND"));
	if (ip->has_pktinfo && ip->pktinfo)
		TRY(socket_set(fd, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO"));
	if (ip->has_tos && ip->tos)
		TRY(socket_set(fd, IPPROTO_IP, IP_TOS, (int)ip->tos, "IP_TOS"));
	if (ip->has_ttl && ip->ttl)
		TRY(socket_set(fd, IPPROTO_IP, IP_TTL, (int)ip->ttl, "IP_TTL"));
	return NULL;
}

/* After the connection is there: a cork or delay would matter to what is sent before. */
static struct error *restore_tcp_options(int fd, const InetSkEntry *entry)
{
	const TcpOptsEntry *tcp = entry->tcp_opts;

	if (!tcp)
		return NULL;
	if (tcp->has_nodelay && tcp->nodelay)
		TRY(socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
	if (tcp->has_cork && tcp->cork)
		TRY(socket_set(fd, IPPROTO_TCP, TCP_CORK, 1, "TCP_CORK"));
	if (tcp->has_keepcnt)
		TRY(socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)tcp->keepcnt, "TCP_KEEPCNT"));
	if (tcp->has_keepidle)
		TRY(socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)tcp->keepidle, "TCP_KEEPIDLE"));
	if (tcp->has_keepintvl)
		TRY(socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)tcp->keepintvl, "TCP_KEEPINTVL"));
	return NULL;
}

static bool is_any(const union socket_address *address)
{
	return address->any.sa_family == AF_INET ? address->v4.sin_addr.s_addr == 0
	                                         : IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

/* In repair mode a TCP port that connections have can be bound, too. */
static struct error *bind_to(int fd, const struct restored *restored)
{
	bool in_repair = restored->entry->proto == IPPROTO_TCP;

	if (!restored->entry->src_port && is_any(&restored->own))
		return NULL;
	/* The address may move here only later; taken back by socket_extras_finish(). */
	TRY(socket_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT"));
	TRY(socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
	if (in_repair)
		TRY(tcp_begin(fd));
	if (bind(fd, &restored->own.any, socket_address_bytes(&restored->own)) < 0)
		return error_hint(error_new(errno, "bind to port %u", restored->entry->src_port), HINT_PORT);
	return in_repair ? tcp_go_on(fd) : NULL;
}

/* A socket that isn't a connection. */
static struct error *bind_and_listen(int fd, const struct restored *restored)
{
	const InetSkEntry *entry = restored->entry;

	TRY(bind_to(fd, restored));
	TRY(socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
	if (inet_is_tcp_protocol(entry->proto) && entry->state == LISTEN && listen(fd, (int)entry->backlog) < 0)
		return error_hint(error_new(errno, "listen on port %u", entry->src_port), HINT_PORT);
	if (!inet_is_tcp_protocol(entry->proto) && entry->dst_port &&
	    connect(fd, &restored->peer.any, socket_address_bytes(&restored->peer)) < 0)
		return error_new(errno, "connect to port %u", entry->dst_port);
	return NULL;
}

static struct error *open_socket(const struct restored *restored, const GodwitSocketEntry *extras, int *ret_fd)
{
	const InetSkEntry *entry = restored->entry;
	auto_fd int fd = socket((int)entry->family, (int)entry->type | SOCK_CLOEXEC, (int)entry->proto);

	if (fd < 0)
		return error_new(errno, "socket(%u, %u, %u)", entry->family, entry->type, entry->proto);
	TRY(restore_ip_options(fd, entry)); /* IP_TOS sets SO_PRIORITY */
	TRY(socket_options_restore(fd, entry->opts));
	TRY(socket_extras_restore(fd, extras, restored->traits));
	*ret_fd = take(fd);
	return NULL;
}

static bool has_ended_entry(const InetSkEntry *entry, const struct image_store *store)
{
	return entry->proto == IPPROTO_TCP && entry->state == CLOSE && tcp_has_ended(entry->ino, store);
}

static struct error *finish_socket(const struct restored *restored, const struct image_store *store,
                                   const GodwitSocketEntry *extras, int fd)
{
	const InetSkEntry *entry = restored->entry;

	if (restored->is_connection)
		TRY(tcp_restore(fd, entry->state, entry->ino, &restored->own, &restored->peer, store));
	else if (has_ended_entry(entry, store))
		TRY(tcp_restore_ended(fd, entry->ino, &restored->own, store));
	else
		TRY(bind_and_listen(fd, restored));
	TRY(restore_tcp_options(fd, entry));
	TRY(socket_options_finish(fd, entry->opts));
	TRY(socket_extras_finish(fd, extras, restored->traits));
	TRY(multicast_restore(fd, extras));
	/* As long as it lacks that, nobody listens at its port any more (its listener may come later); taken back by
	 * inetsk_resume(). */
	return restored->is_connection ? socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR") : NULL;
}

static struct error *inetsk_restore(const FileEntry *file, struct restore_files *restore, struct batch *batch,
                                    struct made_file *ret_made)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	auto_fd int fd = -1;
	struct restored restored;

	(void)batch;
	TRY(read_entry(file, &restored));
	const InetSkEntry *entry = restored.entry;
	if (restored.is_connection && !restore_options(restore)->tcp_established)
		return error_hint(error_new(ENOTSUP, "TCP connection of port %u", entry->src_port),
		                  "--tcp-established brings connections back");
	TRY(socket_extras_find(restore, entry->id, &extras));
	TRY(open_socket(&restored, extras, &fd), "socket of port %u", entry->src_port);
	TRY(finish_socket(&restored, restore_store(restore), extras, fd), "socket of port %u", entry->src_port);
	*ret_made = (struct made_file){
		.local_fd = take(fd),
		.status_flags = entry->flags & ~(uint32_t)O_ACCMODE,
		.owner = entry->fown,
	};
	return NULL;
}

/*
 * Is the port free, and are the interfaces here? Told by making such a socket for a moment. Who connects to a listener in
 * that moment is reset, as before and after it. Connections aren't tried: who else would have both ends of one?
 */
static struct error *inetsk_preflight(const FileEntry *file, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	auto_fd int fd = -1;
	struct restored restored;

	TRY(read_entry(file, &restored));
	const InetSkEntry *entry = restored.entry;
	TRY(socket_extras_find(restore, entry->id, &extras));
	auto_free char *own = inet_address_text(&restored.own);
	TRY(open_socket(&restored, extras, &fd), "socket at %s", own);
	if (restored.is_connection || has_ended_entry(entry, restore_store(restore)))
		return NULL;
	TRY(bind_and_listen(fd, &restored), "%s socket at %s", inet_is_tcp_protocol(entry->proto) ? "TCP" : "UDP", own);
	return error_wrap(multicast_restore(fd, extras), "UDP socket at %s", own);
}

static struct error *inetsk_resume(const FileEntry *file, const struct image_store *store, int fd)
{
	const InetSkEntry *entry = file->isk;

	if (has_ended_entry(entry, store)) {
		TRY(tcp_resume_ended(fd, entry->ino, !socket_extras_is_reset(store, entry->id), store));
		return socket_options_settle(fd, entry->opts);
	}
	if (entry->proto == IPPROTO_UDP && udp_queue_was_saved(entry->ino, store)) {
		TRY(udp_queue_resume(fd, entry->ino, store));
		return socket_options_settle(fd, entry->opts);
	}
	if (entry->proto != IPPROTO_TCP || !tcp_is_connection(entry->state))
		return NULL;
	TRY(tcp_resume(fd, entry->state, entry->ino, store));
	return socket_options_settle(fd, entry->opts);
}

const struct file_ops inetsk_ops = {
	.name = "inetsk",
	.type = FD_TYPES__INETSK,
	.recognizes = inetsk_recognizes,
	.check = inetsk_check,
	.needs_lock = inetsk_needs_lock,
	.unsent = inetsk_unsent,
	.flow = inetsk_flow,
	.entry_flow = inetsk_entry_flow,
	.needs_hold = inetsk_needs_hold,
	.hold = inetsk_hold,
	.read = inetsk_read,
	.answer_bytes = sizeof(struct answers),
	.free_answers = inetsk_free_answers,
	.save = inetsk_save,
	.preflight = inetsk_preflight,
	.go_on = inetsk_go_on,
	.restore = inetsk_restore,
	.resume = inetsk_resume,
};
