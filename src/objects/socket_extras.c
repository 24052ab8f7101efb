/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The options of sockets that go into sockets.godwit: see socket_options.h.
 *
 * Not here, since the kernel doesn't tell them: multicast memberships, TCP_MD5SIG and TCP-AO keys, TCP_FASTOPEN_KEY,
 * SO_ATTACH_REUSEPORT_CBPF/EBPF, IPsec policies of sockets. Not here, since they are moods of a connection and not
 * options: TCP_QUICKACK; TCP_WINDOW_CLAMP and TCP_MAXSEG of a connection.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include "objects/socket_options.h"
#include "util/alloc.h"

/* Newer than Debian 12's headers, with the version of Linux that brought each. */
enum {
	RCVMARK = 75,               /* 6.0 */
	PASSPIDFD = 76,             /* 6.5 */
	RCVPRIORITY = 82,           /* 6.14 */
	PASSRIGHTS = 83,            /* 6.16 */
	IPV6_FLOWINFO_SEND = 33,    /* linux/in6.h, but not netinet/in.h */
	LOCAL_PORT_RANGE = 51,      /* 6.3 */
	TCP_RTO_MAX_MILLIS = 44,    /* 6.15 */
	TCP_RTO_MIN_MICROS = 45,    /* 6.17 */
	TCP_DELACK_MAX_MICROS = 46, /* 6.17 */
};

enum when { EARLY, LATE };

struct option_row {
	int level;
	int name;
	const char *label;
	unsigned int traits; /* of which a socket must have all */
	unsigned int never;  /* of which it must have none */
	bool has_usual;      /* a new socket has this value everywhere */
	int usual;
	enum when when;
	uint8_t size_bytes; /* 0: an int */
};

#define ALWAYS .has_usual = false
#define USUALLY(value) .has_usual = true, .usual = (value)
#define SOCKET(option, ...)                              \
	{                                                \
		SOL_SOCKET, option, #option, __VA_ARGS__ \
	}
#define TCP(option, ...)                                              \
	{                                                             \
		IPPROTO_TCP, option, #option, SOCKET_TCP, __VA_ARGS__ \
	}
#define UDP(option, ...)                                              \
	{                                                             \
		IPPROTO_UDP, option, #option, SOCKET_UDP, __VA_ARGS__ \
	}
#define NETLINK(option)                                                     \
	{                                                                   \
		SOL_NETLINK, option, #option, SOCKET_NETLINK, 0, USUALLY(0) \
	}
#define IP_DATAGRAM(option, ...)                                                       \
	{                                                                              \
		IPPROTO_IP, option, #option, 0, SOCKET_LOCAL | SOCKET_TCP, __VA_ARGS__ \
	}
#define IPV4(option, ...)                                                 \
	{                                                                 \
		IPPROTO_IP, option, #option, 0, SOCKET_LOCAL, __VA_ARGS__ \
	}
#define IPV6(option, ...)                                               \
	{                                                               \
		IPPROTO_IPV6, option, #option, SOCKET_IPV6, __VA_ARGS__ \
	}

/* Options of level IPPROTO_IP hold for IPv6 sockets too, for their IPv4 packets: ipv6_setsockopt() of Linux. */
static const struct option_row rows[] = {
	SOCKET(SO_DEBUG, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMP_OLD, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMP_NEW, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMPNS_OLD, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMPNS_NEW, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMPING_OLD, 0, 0, USUALLY(0)),
	SOCKET(SO_TIMESTAMPING_NEW, 0, 0, USUALLY(0)),
	SOCKET(SO_RXQ_OVFL, 0, 0, USUALLY(0)),
	SOCKET(SO_WIFI_STATUS, 0, 0, USUALLY(0)),
	SOCKET(SO_PEEK_OFF, 0, 0, USUALLY(-1), .when = LATE),
	SOCKET(SO_NOFCS, 0, 0, USUALLY(0)),
	SOCKET(SO_LOCK_FILTER, 0, 0, USUALLY(0), .when = LATE),
	SOCKET(SO_SELECT_ERR_QUEUE, 0, 0, USUALLY(0)),
	SOCKET(SO_BUSY_POLL, 0, SOCKET_LOCAL, ALWAYS),
	SOCKET(SO_PREFER_BUSY_POLL, 0, SOCKET_LOCAL, USUALLY(0)),
	SOCKET(SO_MAX_PACING_RATE, 0, SOCKET_LOCAL, .has_usual = false, .usual = 0, .when = EARLY, .size_bytes = 8),
	SOCKET(SO_INCOMING_CPU, 0, SOCKET_LOCAL | SOCKET_CONNECTED, USUALLY(-1)),
	SOCKET(SO_ZEROCOPY, 0, SOCKET_LOCAL, USUALLY(0)),
	SOCKET(SO_TXREHASH, SOCKET_TCP, SOCKET_CONNECTED, USUALLY(255)),
	SOCKET(RCVMARK, 0, SOCKET_LOCAL, USUALLY(0)),
	SOCKET(RCVPRIORITY, 0, SOCKET_LOCAL, USUALLY(0)),
	SOCKET(PASSPIDFD, SOCKET_UNIX, 0, USUALLY(0), .when = LATE),
	SOCKET(PASSRIGHTS, SOCKET_UNIX, 0, USUALLY(1), .when = LATE),

	TCP(TCP_MAXSEG, SOCKET_CONNECTED, USUALLY(TCP_MSS_DEFAULT)),
	TCP(TCP_SYNCNT, 0, ALWAYS),
	TCP(TCP_LINGER2, 0, ALWAYS),
	TCP(TCP_DEFER_ACCEPT, 0, USUALLY(0)),
	TCP(TCP_WINDOW_CLAMP, SOCKET_CONNECTED, USUALLY(0)),
	TCP(TCP_THIN_LINEAR_TIMEOUTS, 0, USUALLY(0)),
	TCP(TCP_USER_TIMEOUT, 0, USUALLY(0)),
	TCP(TCP_FASTOPEN, SOCKET_CONNECTED, USUALLY(0)),
	TCP(TCP_FASTOPEN_CONNECT, SOCKET_CONNECTED, USUALLY(0)),
	TCP(TCP_FASTOPEN_NO_COOKIE, SOCKET_CONNECTED, USUALLY(0)),
	TCP(TCP_NOTSENT_LOWAT, 0, USUALLY(0)),
	TCP(TCP_SAVE_SYN, SOCKET_CONNECTED, USUALLY(0)),
	TCP(TCP_INQ, 0, USUALLY(0)),
	TCP(TCP_TX_DELAY, 0, USUALLY(0), .when = LATE),
	TCP(TCP_RTO_MAX_MILLIS, 0, ALWAYS),
	TCP(TCP_RTO_MIN_MICROS, 0, ALWAYS),
	TCP(TCP_DELACK_MAX_MICROS, 0, ALWAYS),
	TCP(TCP_CONGESTION, 0, .has_usual = false, .usual = 0, .when = EARLY, .size_bytes = 16),

	UDP(UDP_CORK, 0, USUALLY(0), .when = LATE),
	UDP(UDP_ENCAP, 0, USUALLY(0)),
	UDP(UDP_NO_CHECK6_TX, 0, USUALLY(0)),
	UDP(UDP_NO_CHECK6_RX, 0, USUALLY(0)),
	UDP(UDP_SEGMENT, 0, USUALLY(0)),
	UDP(UDP_GRO, 0, USUALLY(0)),

	NETLINK(NETLINK_PKTINFO),
	NETLINK(NETLINK_BROADCAST_ERROR),
	NETLINK(NETLINK_NO_ENOBUFS),
	NETLINK(NETLINK_LISTEN_ALL_NSID),
	NETLINK(NETLINK_CAP_ACK),
	NETLINK(NETLINK_EXT_ACK),
	NETLINK(NETLINK_GET_STRICT_CHK),

	IP_DATAGRAM(IP_MULTICAST_TTL, USUALLY(1)),
	IP_DATAGRAM(IP_MULTICAST_LOOP, USUALLY(1)),
	IP_DATAGRAM(IP_MULTICAST_ALL, USUALLY(1)),
	IPV4(IP_MTU_DISCOVER, ALWAYS),
	IPV4(IP_RECVERR, USUALLY(0)),
	IPV4(IP_RECVERR_RFC4884, USUALLY(0)),
	IPV4(IP_RECVTTL, USUALLY(0)),
	IPV4(IP_RECVTOS, USUALLY(0)),
	IPV4(IP_RECVOPTS, USUALLY(0)),
	IPV4(IP_RETOPTS, USUALLY(0)),
	IPV4(IP_RECVORIGDSTADDR, USUALLY(0)),
	IPV4(IP_RECVFRAGSIZE, USUALLY(0)),
	IPV4(IP_PASSSEC, USUALLY(0)),
	IPV4(IP_MINTTL, USUALLY(0)),
	IPV4(IP_NODEFRAG, USUALLY(0)),
	IPV4(IP_CHECKSUM, USUALLY(0)),
	IPV4(IP_BIND_ADDRESS_NO_PORT, USUALLY(0)),
	IPV4(IP_UNICAST_IF, USUALLY(0)),
	IPV4(LOCAL_PORT_RANGE, USUALLY(0)),
	IPV4(IP_TRANSPARENT, USUALLY(0), .when = LATE),

	IPV6(IPV6_UNICAST_HOPS, 0, ALWAYS),
	IPV6(IPV6_MULTICAST_HOPS, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_MULTICAST_LOOP, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_MULTICAST_IF, SOCKET_TCP, USUALLY(0)),
	IPV6(IPV6_MULTICAST_ALL, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_UNICAST_IF, 0, USUALLY(0)),
	IPV6(IPV6_TCLASS, 0, USUALLY(0)),
	IPV6(IPV6_MTU_DISCOVER, 0, USUALLY(IPV6_PMTUDISC_WANT)),
	IPV6(IPV6_DONTFRAG, 0, USUALLY(0)),
	IPV6(IPV6_RECVERR, 0, USUALLY(0)),
	IPV6(IPV6_RECVERR_RFC4884, 0, USUALLY(0)),
	IPV6(IPV6_RECVPKTINFO, 0, USUALLY(0)),
	IPV6(IPV6_RECVHOPLIMIT, 0, USUALLY(0)),
	IPV6(IPV6_RECVRTHDR, 0, USUALLY(0)),
	IPV6(IPV6_RECVHOPOPTS, 0, USUALLY(0)),
	IPV6(IPV6_RECVDSTOPTS, 0, USUALLY(0)),
	IPV6(IPV6_RECVTCLASS, 0, USUALLY(0)),
	IPV6(IPV6_RECVPATHMTU, 0, USUALLY(0)),
	IPV6(IPV6_RECVFRAGSIZE, 0, USUALLY(0)),
	IPV6(IPV6_RECVORIGDSTADDR, 0, USUALLY(0)),
	IPV6(IPV6_FLOWINFO_SEND, 0, USUALLY(0)),
	IPV6(IPV6_AUTOFLOWLABEL, 0, ALWAYS),
	IPV6(IPV6_ADDR_PREFERENCES, 0, ALWAYS),
	IPV6(IPV6_MINHOPCOUNT, 0, USUALLY(0)),
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]), VALUE_BYTES_MAX = SOCKET_EXTRA_BYTES_MAX };
_Static_assert(sizeof(rows) / sizeof(rows[0]) <= (size_t)SOCKET_EXTRAS_MAX, "a value for each row");

static bool applies(const struct option_row *row, enum socket_traits traits)
{
	return (traits & row->traits) == row->traits && (traits & row->never) == 0;
}

static size_t value_bytes(const struct option_row *row)
{
	return row->size_bytes ? row->size_bytes : sizeof(int);
}

/* False: this kernel or kind of socket doesn't have it, or it says nothing new. */
static bool worth_saving(int fd, const struct option_row *row, uint8_t value[VALUE_BYTES_MAX], size_t *ret_bytes)
{
	socklen_t size = (socklen_t)value_bytes(row);

	memset(value, 0, VALUE_BYTES_MAX);
	if (getsockopt(fd, row->level, row->name, value, &size) != 0)
		return false;
	*ret_bytes = size;
	return !row->has_usual || memcmp(value, &row->usual, sizeof(int)) != 0;
}

void socket_extras_read(int fd, enum socket_traits traits, struct socket_extras *ret_extras)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		size_t size_bytes = 0;

		if (applies(&rows[i], traits) && worth_saving(fd, &rows[i], ret_extras->values[i], &size_bytes))
			ret_extras->sizes_bytes[i] = (uint8_t)size_bytes;
		else
			ret_extras->sizes_bytes[i] = 0;
	}
}

void socket_extras_put(const struct socket_extras *extras, const struct open_file *file, GodwitSocketEntry *entry,
                       struct image_store *store)
{
	GodwitSocketOption options[ROW_COUNT];
	GodwitSocketOption *pointers[ROW_COUNT];

	for (size_t i = 0; i < ROW_COUNT; i++) {
		GodwitSocketOption *option = &options[entry->n_options];

		if (extras->sizes_bytes[i] == 0)
			continue;
		godwit_socket_option__init(option);
		option->level = rows[i].level;
		option->name = (uint32_t)rows[i].name;
		option->value.len = extras->sizes_bytes[i];
		option->value.data = (uint8_t *)(uintptr_t)extras->values[i];
		pointers[entry->n_options++] = option;
	}
	entry->id = file->id;
	entry->uid = file->stat.st_uid;
	entry->options = pointers;
	image_put(store, IMAGE_GODWIT_SOCKETS, 0, &entry->base);
	entry->options = NULL; /* they live here */
}

struct error *socket_extras_save(int fd, const struct open_file *file, enum socket_traits traits,
                                 GodwitSocketEntry *entry, struct image_store *store)
{
	struct socket_extras extras;

	socket_extras_read(fd, traits, &extras);
	socket_extras_put(&extras, file, entry, store);
	return NULL;
}

static uint64_t id_of(const ProtobufCMessage *message)
{
	return ((const GodwitSocketEntry *)message)->id;
}

struct error *socket_extras_find(struct restore_files *restore, uint32_t id, GodwitSocketEntry **ret_extras)
{
	bool is_found = false;
	size_t index = 0;
	ProtobufCMessage *message = restore_replacement(restore, IMAGE_GODWIT_SOCKETS, id);

	*ret_extras = (GodwitSocketEntry *)message;
	if (message)
		return NULL;
	TRY(restore_find(restore, IMAGE_GODWIT_SOCKETS, id_of, id, &is_found, &index));
	if (!is_found) {
		*ret_extras = NULL;
		return NULL;
	}
	TRY(image_get(restore_store(restore), IMAGE_GODWIT_SOCKETS, 0, index, &message));
	*ret_extras = (GodwitSocketEntry *)message;
	return NULL;
}

void socket_extras_free(GodwitSocketEntry *extras)
{
	if (extras)
		godwit_socket_entry__free_unpacked(extras, NULL);
}

static const struct option_row *find_row(const GodwitSocketOption *option, enum socket_traits traits)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].level == option->level && rows[i].name == (int)option->name && applies(&rows[i], traits))
			return &rows[i];
	return NULL;
}

/* Some options ask for privileges or for a state that only the old socket had: not touched if it is so already. */
static bool is_so_already(int fd, const struct option_row *row, const GodwitSocketOption *option)
{
	uint8_t value[VALUE_BYTES_MAX] = {0};
	socklen_t size = (socklen_t)value_bytes(row);

	return getsockopt(fd, row->level, row->name, value, &size) == 0 && size == option->value.len &&
	       memcmp(value, option->value.data, size) == 0;
}

static struct error *restore_option(int fd, const GodwitSocketOption *option, enum socket_traits traits, enum when when)
{
	const struct option_row *row = find_row(option, traits);

	if (!row || option->value.len > value_bytes(row))
		return error_new(EBADMSG, "socket option %d of level %d with %zu bytes", (int)option->name,
		                 option->level, option->value.len);
	if (row->when != when || is_so_already(fd, row, option))
		return NULL;
	if (setsockopt(fd, row->level, row->name, option->value.data, (socklen_t)option->value.len) == 0)
		return NULL;
	/* Another host may not have the same congestion control: its own one does the work. */
	if (row->level == IPPROTO_TCP && row->name == TCP_CONGESTION && (errno == ENOENT || errno == EPERM))
		return NULL;
	return error_new(errno, "setsockopt(%s)", row->label);
}

static struct error *restore_rows(int fd, const GodwitSocketEntry *extras, enum socket_traits traits, enum when when)
{
	if (!extras)
		return NULL;
	for (size_t i = 0; i < extras->n_options; i++)
		TRY(restore_option(fd, extras->options[i], traits, when));
	return NULL;
}

struct error *socket_extras_restore(int fd, const GodwitSocketEntry *extras, enum socket_traits traits)
{
	/* The owner of the inode is the owner of the socket, for SO_REUSEPORT and firewalls: sockfs_setattr(), Linux 4.10. */
	if (extras && fchown(fd, extras->uid, (gid_t)-1) != 0)
		return error_new(errno, "fchown(socket, %u)", extras->uid);
	return restore_rows(fd, extras, traits, EARLY);
}

struct error *socket_extras_finish(int fd, const GodwitSocketEntry *extras, enum socket_traits traits)
{
	if (!(traits & SOCKET_LOCAL))
		TRY(socket_set(fd, IPPROTO_IP, IP_TRANSPARENT, 0, "IP_TRANSPARENT"));
	return restore_rows(fd, extras, traits, LATE);
}
