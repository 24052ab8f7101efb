/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The options of sockets that go into sockets.godwit: see socket_options.h.
 *
 * Not here, since no getsockopt(2) tells them: TCP_MD5SIG and TCP-AO keys (refused), SO_ATTACH_REUSEPORT_CBPF/EBPF,
 * IP_XFRM_POLICY and IP_IPSEC_POLICY (both families), SO_BUSY_POLL_BUDGET, IPV6_MTU, IPV6_PKTINFO as an option,
 * IPV6_JOIN_ANYCAST, flow labels (IPV6_FLOWLABEL_MGR), the interface of IP_MULTICAST_IF. Not here, since they are moods of
 * a connection and not options: TCP_QUICKACK; TCP_WINDOW_CLAMP and TCP_MAXSEG of a connection. SO_RESERVE_MEM is a matter
 * between the first host and its control group. Elsewhere: sk_opts_entry, inetsk.c, multicast.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <net/if.h>
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

/* Of an extension header of IPv6. Those that are longer are refused when they are to be set: RFC 8200 has up to 2048. */
enum { HEADER_BYTES_MAX = 256 };

enum when { EARLY, LATE };
enum order { NO_INTERFACE, HOST_ORDER, NETWORK_ORDER };

struct option_row {
	int level;
	int name;
	const char *label;
	unsigned int traits; /* of which a socket must have all */
	unsigned int never;  /* of which it must have none */
	bool has_usual;      /* a new socket has this value everywhere */
	int usual;
	enum when when;
	uint16_t size_bytes; /* 0: an int */
	bool is_variable;    /* up to that size; none: it isn't set */
	enum order order;    /* of the number of an interface, which is another one on another host */
	int only_with;       /* an option of the same level, without which this one means nothing; 0: none */
};

#define ALWAYS .has_usual = false
#define USUALLY(value) .has_usual = true, .usual = (value)
#define VARIABLE(most) .has_usual = false, .usual = 0, .when = EARLY, .size_bytes = (most), .is_variable = true
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
	SOCKET(SO_TXTIME, 0, SOCKET_LOCAL, .has_usual = false, .usual = 0, .when = EARLY, .size_bytes = 8),
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
	/* Its own or the host's: cookies that its clients have stay good. */
	TCP(TCP_FASTOPEN_KEY, SOCKET_CONNECTED, .has_usual = false, .usual = 0, .when = EARLY, .size_bytes = 32,
            .is_variable = true, .only_with = TCP_FASTOPEN),
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
	IP_DATAGRAM(IP_MULTICAST_ALL, ALWAYS),
	IPV4(IP_OPTIONS, VARIABLE(40)),
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
	IPV4(IP_UNICAST_IF, USUALLY(0), .order = NETWORK_ORDER),
	IPV4(LOCAL_PORT_RANGE, USUALLY(0)),
	IPV4(IP_TRANSPARENT, USUALLY(0), .when = LATE),

	IPV6(IPV6_UNICAST_HOPS, 0, ALWAYS),
	IPV6(IPV6_MULTICAST_HOPS, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_MULTICAST_LOOP, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_MULTICAST_IF, SOCKET_TCP, USUALLY(0), .order = HOST_ORDER),
	IPV6(IPV6_MULTICAST_ALL, SOCKET_TCP, USUALLY(1)),
	IPV6(IPV6_UNICAST_IF, 0, USUALLY(0), .order = NETWORK_ORDER),
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
	IPV6(IPV6_2292PKTINFO, 0, USUALLY(0)),
	IPV6(IPV6_2292HOPLIMIT, 0, USUALLY(0)),
	IPV6(IPV6_2292RTHDR, 0, USUALLY(0)),
	IPV6(IPV6_2292HOPOPTS, 0, USUALLY(0)),
	IPV6(IPV6_2292DSTOPTS, 0, USUALLY(0)),
	IPV6(IPV6_HOPOPTS, 0, VARIABLE(HEADER_BYTES_MAX)),
	IPV6(IPV6_RTHDRDSTOPTS, 0, VARIABLE(HEADER_BYTES_MAX)),
	IPV6(IPV6_RTHDR, 0, VARIABLE(HEADER_BYTES_MAX)),
	IPV6(IPV6_DSTOPTS, 0, VARIABLE(HEADER_BYTES_MAX)),
	IPV6(IPV6_FLOWINFO_SEND, 0, USUALLY(0)),
	IPV6(IPV6_AUTOFLOWLABEL, 0, ALWAYS),
	IPV6(IPV6_ADDR_PREFERENCES, 0, ALWAYS),
	IPV6(IPV6_MINHOPCOUNT, 0, USUALLY(0)),
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]), INTERFACES_MAX = 3 };
_Static_assert(sizeof(rows) / sizeof(rows[0]) <= (size_t)SOCKET_EXTRAS_MAX, "a size for each row");

static bool applies(const struct option_row *row, enum socket_traits traits)
{
	return (traits & row->traits) == row->traits && (traits & row->never) == 0;
}

static size_t value_bytes(const struct option_row *row)
{
	return row->size_bytes ? row->size_bytes : sizeof(int);
}

/* False: this kernel or kind of socket doesn't have it, or it says nothing new. */
static bool worth_saving(int fd, const struct option_row *row, uint8_t *value, size_t *ret_bytes)
{
	socklen_t size = (socklen_t)value_bytes(row);
	int other = 0;

	if (row->only_with && (socket_get(fd, row->level, row->only_with, &other) < 0 || other == 0))
		return false;
	memset(value, 0, size);
	if (getsockopt(fd, row->level, row->name, value, &size) != 0)
		return false;
	*ret_bytes = size;
	if (row->is_variable)
		return size > 0;
	return !row->has_usual || memcmp(value, &row->usual, sizeof(int)) != 0;
}

static uint32_t reorder(uint32_t number, enum order order)
{
	return order == NETWORK_ORDER ? ntohl(number) : number;
}

void socket_extras_read(int fd, enum socket_traits traits, struct socket_extras *ret_extras)
{
	size_t used_bytes = 0;

	for (size_t i = 0; i < ROW_COUNT; i++) {
		size_t size_bytes = 0;

		if (!applies(&rows[i], traits) || used_bytes + value_bytes(&rows[i]) > sizeof(ret_extras->values) ||
		    !worth_saving(fd, &rows[i], &ret_extras->values[used_bytes], &size_bytes))
			size_bytes = 0;
		ret_extras->sizes_bytes[i] = (uint16_t)size_bytes;
		used_bytes += size_bytes;
	}
}

/* The name of the interface that a value is the number of. NULL: none, or it is gone. */
static char *interface_of(const struct option_row *row, const uint8_t *value, char name[IF_NAMESIZE])
{
	uint32_t number;

	if (row->order == NO_INTERFACE)
		return NULL;
	memcpy(&number, value, sizeof(number));
	return if_indextoname(reorder(number, row->order), name);
}

void socket_extras_put(const struct socket_extras *extras, const struct open_file *file, GodwitSocketEntry *entry,
                       struct image_store *store)
{
	GodwitSocketOption options[ROW_COUNT];
	GodwitSocketOption *pointers[ROW_COUNT];
	char interfaces[INTERFACES_MAX][IF_NAMESIZE];
	size_t interface_count = 0;
	size_t used_bytes = 0;

	for (size_t i = 0; i < ROW_COUNT; i++) {
		GodwitSocketOption *option = &options[entry->n_options];
		const uint8_t *value = &extras->values[used_bytes];

		if (extras->sizes_bytes[i] == 0)
			continue;
		used_bytes += extras->sizes_bytes[i];
		godwit_socket_option__init(option);
		option->level = rows[i].level;
		option->name = (uint32_t)rows[i].name;
		option->value.len = extras->sizes_bytes[i];
		option->value.data = (uint8_t *)(uintptr_t)value;
		if (interface_count < INTERFACES_MAX)
			option->interface = interface_of(&rows[i], value, interfaces[interface_count]);
		interface_count += option->interface != NULL;
		pointers[entry->n_options++] = option;
	}
	entry->id = file->id;
	entry->uid = file->stat.st_uid;
	entry->options = pointers;
	image_put(store, IMAGE_GODWIT_SOCKETS, 0, &entry->base);
	entry->options = NULL; /* they live here */
	entry->n_options = 0;
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

bool socket_extras_is_reset(const struct image_store *store, uint32_t id)
{
	bool is_reset = false;

	for (size_t i = 0; i < image_count(store, IMAGE_GODWIT_SOCKETS, 0); i++) {
		ProtobufCMessage *message;
		auto_error struct error *error = image_get(store, IMAGE_GODWIT_SOCKETS, 0, i, &message);

		if (error)
			continue;
		GodwitSocketEntry *entry = (GodwitSocketEntry *)message;
		is_reset = is_reset || (entry->id == id && entry->has_is_reset && entry->is_reset);
		socket_extras_free(entry);
	}
	return is_reset;
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
static bool is_so_already(int fd, const struct option_row *row, const uint8_t *wanted, size_t size_bytes)
{
	uint8_t value[HEADER_BYTES_MAX] = {0};
	socklen_t size = (socklen_t)value_bytes(row);

	return getsockopt(fd, row->level, row->name, value, &size) == 0 && size == size_bytes &&
	       memcmp(value, wanted, size) == 0;
}

/* The value as it has to be here. */
static struct error *value_here(const GodwitSocketOption *option, const struct option_row *row,
                                uint8_t ret_value[HEADER_BYTES_MAX])
{
	memcpy(ret_value, option->value.data, option->value.len);
	if (row->order == NO_INTERFACE || !option->interface)
		return NULL;
	uint32_t number = reorder(if_nametoindex(option->interface), row->order);
	if (number == 0)
		return error_new(errno, "%s: interface %.*s", row->label, IF_NAMESIZE, option->interface);
	memcpy(ret_value, &number, sizeof(number));
	return NULL;
}

static struct error *restore_option(int fd, const GodwitSocketOption *option, enum socket_traits traits, enum when when)
{
	const struct option_row *row = find_row(option, traits);
	uint8_t value[HEADER_BYTES_MAX] = {0};

	if (!row || option->value.len > value_bytes(row))
		return error_new(EBADMSG, "socket option %d of level %d with %zu bytes", (int)option->name,
		                 option->level, option->value.len);
	if (row->when != when)
		return NULL;
	TRY(value_here(option, row, value));
	if (is_so_already(fd, row, value, option->value.len) ||
	    setsockopt(fd, row->level, row->name, value, (socklen_t)option->value.len) == 0)
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
