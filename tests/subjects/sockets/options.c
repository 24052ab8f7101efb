/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * All options of sockets of the internet that setsockopt(2) takes and getsockopt(2) tells: each has a value that no new
 * socket has, on every kind of socket that has it, and what is told of it is the same afterwards.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include "sockets.h"

/* Newer than Debian 12's headers, or in those that can't be included beside them. */
enum {
	BUF_LOCK = 72,
	RCVMARK = 75,
	RCVPRIORITY = 82,
	LOCAL_PORT_RANGE = 51,
	FLOWINFO_SEND = 33,
	MULTICAST_ALL = 29,
	RTO_MAX_MILLIS = 44,
	RTO_MIN_MICROS = 45,
	DELACK_MAX_MICROS = 46,
};

enum kind { UDP4, UDP6, FRESH4, FRESH6, LISTENER4, LISTENER6, CONNECTION4, CONNECTION6, KIND_COUNT };

enum {
	UDP = 1 << UDP4 | 1 << UDP6,
	FRESH = 1 << FRESH4 | 1 << FRESH6,
	LISTENER = 1 << LISTENER4 | 1 << LISTENER6,
	CONNECTION = 1 << CONNECTION4 | 1 << CONNECTION6,
	TCP = FRESH | LISTENER | CONNECTION,
	NEW = FRESH | LISTENER, /* whose values the kernel doesn't adapt */
	ALL = UDP | TCP,
	V6 = 1 << UDP6 | 1 << FRESH6 | 1 << LISTENER6 | 1 << CONNECTION6,
};

static const char *const kind_names[KIND_COUNT] = {
	"UDP",      "UDP over IPv6", "new TCP",    "new TCP over IPv6",
	"listener", "IPv6 listener", "connection", "IPv6 connection",
};

enum { VALUE_BYTES_MAX = 64, OWNER = 4321 };

struct value {
	unsigned char bytes[VALUE_BYTES_MAX];
	socklen_t size;
};

/* What sets it: a number, or bytes. */
struct option {
	int level, name;
	const char *label;
	unsigned kinds;
	int number;
	const void *bytes;
	socklen_t size;
	int is_new; /* not every kernel has it */
};

#define OPTION(level, name, kinds, number)                    \
	{                                                     \
		level, name, #name, kinds, number, NULL, 0, 0 \
	}
#define LATELY(level, name, kinds, number)                    \
	{                                                     \
		level, name, #name, kinds, number, NULL, 0, 1 \
	}
#define BYTES(level, name, kinds, bytes)                                 \
	{                                                                \
		level, name, #name, kinds, 0, &(bytes), sizeof(bytes), 0 \
	}

static const struct timeval receive_time = {123, 456000};
static const struct timeval send_time = {321, 654000};
static const struct linger linger = {1, 77};
static const uint64_t pacing_rate = 0x123456789;
static const struct sock_txtime send_at = {CLOCK_MONOTONIC, 0};
static const char device[3] = "lo";
static const char congestion[4] = "reno";
static const unsigned char ip_options[4] = {1, 1, 1, 0};
static const unsigned char header[8] = {0, 0, 1, 4};
static const unsigned char cookie_key[16] = "this is a secret";

static const struct option options[] = {
	OPTION(IPPROTO_IP, IP_TOS, ALL, 0x10), /* sets the priority, too */
	OPTION(SOL_SOCKET, SO_DEBUG, ALL, 1),
	OPTION(SOL_SOCKET, SO_PRIORITY, UDP | NEW, 5),
	OPTION(SOL_SOCKET, SO_RCVLOWAT, ALL, 3),
	OPTION(SOL_SOCKET, SO_MARK, ALL, 0x1234),
	OPTION(SOL_SOCKET, SO_OOBINLINE, ALL, 1),
	OPTION(SOL_SOCKET, SO_DONTROUTE, UDP, 1),
	OPTION(SOL_SOCKET, SO_NO_CHECK, UDP, 1),
	OPTION(SOL_SOCKET, SO_REUSEPORT, ALL, 1),
	OPTION(SOL_SOCKET, SO_REUSEADDR, ALL, 1),
	OPTION(SOL_SOCKET, SO_BROADCAST, UDP, 1),
	OPTION(SOL_SOCKET, SO_KEEPALIVE, TCP, 1),
	OPTION(SOL_SOCKET, SO_TIMESTAMPNS, 1 << UDP4 | FRESH, 1),
	OPTION(SOL_SOCKET, SO_TIMESTAMP, 1 << UDP6, 1),
	OPTION(SOL_SOCKET, SO_TIMESTAMPING, UDP, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE),
	OPTION(SOL_SOCKET, SO_RXQ_OVFL, UDP, 1),
	OPTION(SOL_SOCKET, SO_WIFI_STATUS, UDP, 1),
	OPTION(SOL_SOCKET, SO_NOFCS, UDP, 1),
	OPTION(SOL_SOCKET, SO_PEEK_OFF, UDP, 5),
	OPTION(SOL_SOCKET, SO_SELECT_ERR_QUEUE, ALL, 1),
	OPTION(SOL_SOCKET, SO_BUSY_POLL, ALL, 17),
	OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL, ALL, 1),
	OPTION(SOL_SOCKET, SO_INCOMING_CPU, UDP | NEW, 0),
	OPTION(SOL_SOCKET, SO_ZEROCOPY, UDP | TCP, 1),
	OPTION(SOL_SOCKET, SO_TXREHASH, NEW, 0),
	OPTION(SOL_SOCKET, SO_SNDBUF, ALL, 77777),
	OPTION(SOL_SOCKET, SO_RCVBUF, UDP | FRESH, 99999),
	LATELY(SOL_SOCKET, RCVMARK, ALL, 1),
	LATELY(SOL_SOCKET, RCVPRIORITY, ALL, 1),
	BYTES(SOL_SOCKET, SO_RCVTIMEO, ALL, receive_time),
	BYTES(SOL_SOCKET, SO_SNDTIMEO, ALL, send_time),
	BYTES(SOL_SOCKET, SO_LINGER, ALL, linger),
	BYTES(SOL_SOCKET, SO_MAX_PACING_RATE, ALL, pacing_rate),
	BYTES(SOL_SOCKET, SO_TXTIME, UDP, send_at),
	BYTES(SOL_SOCKET, SO_BINDTODEVICE, ALL, device),

	OPTION(IPPROTO_TCP, TCP_NODELAY, TCP, 1),
	OPTION(IPPROTO_TCP, TCP_CORK, TCP, 1),
	OPTION(IPPROTO_TCP, TCP_KEEPIDLE, TCP, 4321),
	OPTION(IPPROTO_TCP, TCP_KEEPINTVL, TCP, 54),
	OPTION(IPPROTO_TCP, TCP_KEEPCNT, TCP, 11),
	OPTION(IPPROTO_TCP, TCP_MAXSEG, NEW, 999),
	OPTION(IPPROTO_TCP, TCP_SYNCNT, TCP, 3),
	OPTION(IPPROTO_TCP, TCP_LINGER2, TCP, 33),
	OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, NEW, 63), /* as many seconds as whole rounds of attempts make */
	OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP, NEW, 54321),
	OPTION(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, TCP, 1),
	OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, TCP, 98765),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN, NEW, 7),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, FRESH, 1),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, NEW, 1),
	OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP, 7654),
	OPTION(IPPROTO_TCP, TCP_SAVE_SYN, NEW, 1),
	OPTION(IPPROTO_TCP, TCP_INQ, TCP, 1),
	OPTION(IPPROTO_TCP, TCP_TX_DELAY, FRESH, 12),
	LATELY(IPPROTO_TCP, RTO_MAX_MILLIS, TCP, 7000),
	LATELY(IPPROTO_TCP, RTO_MIN_MICROS, TCP, 150000),
	LATELY(IPPROTO_TCP, DELACK_MAX_MICROS, TCP, 30000),
	BYTES(IPPROTO_TCP, TCP_CONGESTION, TCP, congestion),
	BYTES(IPPROTO_TCP, TCP_FASTOPEN_KEY, LISTENER, cookie_key),

	OPTION(IPPROTO_UDP, UDP_CORK, UDP, 1),
	OPTION(IPPROTO_UDP, UDP_NO_CHECK6_TX, UDP, 1),
	OPTION(IPPROTO_UDP, UDP_NO_CHECK6_RX, UDP, 1),
	OPTION(IPPROTO_UDP, UDP_SEGMENT, UDP, 555),
	OPTION(IPPROTO_UDP, UDP_GRO, UDP, 1),

	OPTION(IPPROTO_IP, IP_TTL, ALL, 33),
	OPTION(IPPROTO_IP, IP_PKTINFO, UDP, 1),
	OPTION(IPPROTO_IP, IP_FREEBIND, ALL, 1),
	OPTION(IPPROTO_IP, IP_TRANSPARENT, ALL, 1),
	OPTION(IPPROTO_IP, IP_MULTICAST_TTL, UDP, 9),
	OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, UDP, 0),
	OPTION(IPPROTO_IP, IP_MULTICAST_ALL, 1 << UDP4, 0),
	OPTION(IPPROTO_IP, IP_MULTICAST_ALL, 1 << UDP6, 1),
	OPTION(IPPROTO_IP, IP_MTU_DISCOVER, ALL, IP_PMTUDISC_PROBE),
	OPTION(IPPROTO_IP, IP_RECVERR, ALL, 1),
	OPTION(IPPROTO_IP, IP_RECVERR_RFC4884, UDP, 1),
	OPTION(IPPROTO_IP, IP_RECVTTL, UDP, 1),
	OPTION(IPPROTO_IP, IP_RECVTOS, UDP, 1),
	OPTION(IPPROTO_IP, IP_RECVOPTS, UDP, 1),
	OPTION(IPPROTO_IP, IP_RETOPTS, UDP, 1),
	OPTION(IPPROTO_IP, IP_RECVORIGDSTADDR, UDP, 1),
	OPTION(IPPROTO_IP, IP_RECVFRAGSIZE, 1 << UDP4, 1),
	OPTION(IPPROTO_IP, IP_PASSSEC, UDP, 1),
	OPTION(IPPROTO_IP, IP_MINTTL, ALL, 5),
	OPTION(IPPROTO_IP, IP_CHECKSUM, UDP, 1),
	OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, ALL, 1),
	LATELY(IPPROTO_IP, LOCAL_PORT_RANGE, UDP | FRESH, 50001 << 16 | 40001),
	BYTES(IPPROTO_IP, IP_OPTIONS, 1 << UDP4, ip_options),

	OPTION(IPPROTO_IPV6, IPV6_V6ONLY, V6 &(UDP | FRESH), 1),
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, V6, 44),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, V6 &UDP, 7),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, V6 &UDP, 0),
	OPTION(IPPROTO_IPV6, MULTICAST_ALL, V6 &UDP, 0),
	OPTION(IPPROTO_IPV6, IPV6_TCLASS, V6, 0x20),
	OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER, V6, IPV6_PMTUDISC_PROBE),
	OPTION(IPPROTO_IPV6, IPV6_DONTFRAG, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR_RFC4884, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVPKTINFO, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVRTHDR, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVHOPOPTS, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVDSTOPTS, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVPATHMTU, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVFRAGSIZE, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_2292PKTINFO, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_2292HOPLIMIT, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_2292RTHDR, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_2292HOPOPTS, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, IPV6_2292DSTOPTS, V6 &UDP, 1),
	OPTION(IPPROTO_IPV6, FLOWINFO_SEND, V6, 1),
	OPTION(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, V6, 0),
	OPTION(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, V6, 0x4), /* IPV6_PREFER_SRC_COA: a home address isn't wanted */
	OPTION(IPPROTO_IPV6, IPV6_MINHOPCOUNT, V6, 6),
	BYTES(IPPROTO_IPV6, IPV6_HOPOPTS, V6 &UDP, header),
	BYTES(IPPROTO_IPV6, IPV6_DSTOPTS, V6 &UDP, header),
};

enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

struct all {
	int fds[KIND_COUNT];
	struct value values[KIND_COUNT][OPTION_COUNT]; /* of size 0: not set */
};

static struct value read_value(int fd, const struct option *option)
{
	struct value value = {.size = VALUE_BYTES_MAX};

	if (getsockopt(fd, option->level, option->name, value.bytes, &value.size) != 0)
		value.size = 0;
	return value;
}

static int is_same(const struct value *one, const struct value *other)
{
	return one->size == other->size && memcmp(one->bytes, other->bytes, one->size) == 0;
}

static void give(const struct subject *subject, struct all *all, enum kind kind, size_t i)
{
	const struct option *option = &options[i];
	const void *bytes = option->bytes ? option->bytes : &option->number;
	const struct value fresh = read_value(all->fds[kind], option);

	if (setsockopt(all->fds[kind], option->level, option->name, bytes,
	               option->bytes ? option->size : (socklen_t)sizeof(int)) != 0) {
		if (option->is_new && errno == ENOPROTOOPT)
			return;
		subject_fail(subject, "%s of %s: errno %d", option->label, kind_names[kind], errno);
	}
	all->values[kind][i] = read_value(all->fds[kind], option);
	if (is_same(&fresh, &all->values[kind][i]))
		subject_fail(subject, "%s of %s has no value of its own", option->label, kind_names[kind]);
}

static void look(const struct subject *subject, const struct all *all, enum kind kind, size_t i)
{
	const struct value now = read_value(all->fds[kind], &options[i]);
	const struct value *before = &all->values[kind][i];
	int was = 0;
	int is = 0;

	if (is_same(before, &now))
		return;
	memcpy(&was, before->bytes, sizeof(was));
	memcpy(&is, now.bytes, sizeof(is));
	subject_fail(subject, "%s of %s was %#x (%u bytes), is %#x (%u bytes)", options[i].label, kind_names[kind], was,
	             before->size, is, now.size);
}

/* When all are set: some change others. */
static void note(const struct subject *subject, struct all *all, enum kind kind, size_t i)
{
	(void)subject;
	if (all->values[kind][i].size > 0)
		all->values[kind][i] = read_value(all->fds[kind], &options[i]);
}

static void for_each(const struct subject *subject, struct all *all,
                     void (*act)(const struct subject *subject, struct all *all, enum kind kind, size_t i))
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		for (enum kind kind = 0; kind < KIND_COUNT; kind++)
			if (options[i].kinds >> kind & 1)
				act(subject, all, kind, i);
}

static void look_again(const struct subject *subject, struct all *all, enum kind kind, size_t i)
{
	if (all->values[kind][i].size > 0)
		look(subject, all, kind, i);
}

static int make_listener(const struct subject *subject, int family)
{
	struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
	int fd = socket(family, SOCK_STREAM, 0);

	check(subject, bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 5) == 0, "listen");
	return fd;
}

/* Its other end stays open, without a descriptor that is looked at. */
static int make_connection(const struct subject *subject, int family)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	int listener = make_listener(subject, family);
	int fd = socket(family, SOCK_STREAM, 0);

	getsockname(listener, (struct sockaddr *)&address, &size);
	if (family == AF_INET)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
	check(subject, connect(fd, (struct sockaddr *)&address, size) == 0 && accept(listener, NULL, NULL) >= 0,
	      "connect");
	close(listener);
	return fd;
}

static void give_filter(const struct subject *subject, int fd)
{
	struct sock_filter whole[] = {BPF_STMT(BPF_RET | BPF_K, 0x7fff)};
	const struct sock_fprog program = {1, whole};

	check(subject, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0, "filter");
	set(subject, fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

static void check_filter(const struct subject *subject, int fd)
{
	struct sock_filter found[1] = {{0}};
	socklen_t count = 1;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, found, &count) != 0 || count != 1 || found[0].k != 0x7fff ||
	    get(fd, SOL_SOCKET, SO_LOCK_FILTER) != 1)
		subject_fail(subject, "filter of %u instructions", count);
}

static void check_owner(const struct subject *subject, int fd, uid_t expected)
{
	struct stat stat;

	if (fstat(fd, &stat) != 0 || stat.st_uid != expected)
		subject_fail(subject, "the socket is of user %u, not %u", stat.st_uid, expected);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	static struct all all;
	const int families[2] = {AF_INET, AF_INET6};

	for (int i = 0; i < 2; i++) {
		all.fds[UDP4 + i] = socket(families[i], SOCK_DGRAM, 0);
		all.fds[FRESH4 + i] = socket(families[i], SOCK_STREAM, 0);
		all.fds[LISTENER4 + i] = make_listener(&subject, families[i]);
		all.fds[CONNECTION4 + i] = make_connection(&subject, families[i]);
	}
	for_each(&subject, &all, give);
	for_each(&subject, &all, note);
	give_filter(&subject, all.fds[UDP4]);
	give_filter(&subject, all.fds[CONNECTION6]);
	for (int i = 0; i < KIND_COUNT; i++)
		check(&subject, fchown(all.fds[i], OWNER + (uid_t)i, (gid_t)-1) == 0, "fchown");
	set(&subject, all.fds[FRESH6], SOL_SOCKET, BUF_LOCK, 1);

	subject_ready(&subject);

	for_each(&subject, &all, look_again);
	check_filter(&subject, all.fds[UDP4]);
	check_filter(&subject, all.fds[CONNECTION6]);
	for (int i = 0; i < KIND_COUNT; i++)
		check_owner(&subject, all.fds[i], OWNER + (uid_t)i);
	if (get(all.fds[FRESH6], SOL_SOCKET, BUF_LOCK) != 1 || get(all.fds[FRESH4], SOL_SOCKET, BUF_LOCK) != 3)
		subject_fail(&subject, "locks of buffers: %d, %d", get(all.fds[FRESH6], SOL_SOCKET, BUF_LOCK),
		             get(all.fds[FRESH4], SOL_SOCKET, BUF_LOCK));
	return subject_pass(&subject);
}
