/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "objects/inet_look.h"
#include "objects/tcp_keys.h"
#include "util/alloc.h"

enum { CONNECTED = 1, CLOSE = 7, LISTEN = 10 };

bool inet_is_tcp_protocol(uint32_t protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

bool inet_look_is_tcp(const struct inet_look *look)
{
	return inet_is_tcp_protocol((uint32_t)look->kind.protocol);
}

struct error *inet_look_at(const struct open_file *file, struct inet_look *look)
{
	TRY(open_file_borrow(file, &look->fd));
	int r = socket_get(look->fd, SOL_SOCKET, SO_PROTOCOL, &look->kind.protocol);
	if (r < 0)
		return error_new(-r, "getsockopt(SO_PROTOCOL)");
	TRY(socket_addresses(look->fd, &look->own, &look->peer));
	look->kind.family = look->own.any.sa_family;
	look->kind.type = inet_look_is_tcp(look) ? SOCK_STREAM : SOCK_DGRAM;
	look->tcp = (struct tcp_socket_state){.state = socket_port(&look->peer) ? CONNECTED : CLOSE};
	return inet_look_is_tcp(look) ? tcp_state(look->fd, &look->tcp) : NULL;
}

bool inet_look_is_connection(const struct inet_look *look)
{
	return inet_look_is_tcp(look) && tcp_is_connection(look->tcp.state);
}

char *inet_address_text(const union socket_address *address)
{
	char text[INET6_ADDRSTRLEN] = "?";
	bool is_v4 = address->any.sa_family == AF_INET;
	const void *bytes = is_v4 ? (const void *)&address->v4.sin_addr : &address->v6.sin6_addr;

	inet_ntop(address->any.sa_family, bytes, text, sizeof(text));
	return xformat(is_v4 ? "%s:%u" : "[%s]:%u", text, ntohs(socket_port(address)));
}

/* A protocol above TCP, as kernel TLS: TCP_ULP. */
static struct error *check_upper_layer(const struct inet_look *look)
{
	char name[16] = "";
	socklen_t size = sizeof(name);

	if (getsockopt(look->fd, IPPROTO_TCP, TCP_ULP, name, &size) < 0 || size == 0 || !name[0])
		return NULL;
	return error_new(ENOTSUP, "TCP connection with the kernel's %.15s in it (TCP_ULP)", name);
}

/* There is no repair mode for it, whether or not the peer knows it, too. */
static struct error *check_multipath(const struct inet_look *look)
{
	if (look->kind.protocol != IPPROTO_MPTCP || look->tcp.state == LISTEN || look->tcp.state == CLOSE)
		return NULL;
	auto_free char *own = inet_address_text(&look->own);
	auto_free char *peer = inet_address_text(&look->peer);
	return error_hint(error_new(ENOTSUP, "connection of multipath TCP from %s to %s", own, peer),
	                  "programs in Go use plain TCP with GODEBUG=multipathtcp=0; mptcpize disable or sysctl "
	                  "net.mptcp.enabled=0 before they start do it for others");
}

/* Where it is in the stream can be neither told nor set. */
static struct error *check_urgent(const struct inet_look *look)
{
	struct pollfd poll_fd = {.fd = look->fd, .events = POLLPRI};

	if (!inet_look_is_connection(look) || poll(&poll_fd, 1, 0) != 1 || !(poll_fd.revents & POLLPRI))
		return NULL;
	return error_hint(error_new(ENOTSUP, "TCP connection with urgent data (MSG_OOB)"),
	                  "try again when the program has read it");
}

static struct error *check_connection(const struct open_file *file, const struct inet_look *look)
{
	auto_free char *own = inet_address_text(&look->own);
	auto_free char *peer = inet_address_text(&look->peer);

	if (!file->options->tcp_established)
		return error_hint(error_new(ENOTSUP, "TCP connection from %s to %s", own, peer),
		                  "--tcp-established carries connections");
	TRY(check_upper_layer(look), "from %s to %s", own, peer);
	return error_wrap(check_urgent(look), "from %s to %s", own, peer);
}

/* What is gathered under UDP_CORK can't be read. */
static struct error *check_half_written(const struct inet_look *look)
{
	int cork = 0;
	int bytes = 0;

	if (socket_get(look->fd, IPPROTO_UDP, UDP_CORK, &cork) < 0 || !cork || ioctl(look->fd, SIOCOUTQ, &bytes) < 0 ||
	    bytes == 0)
		return NULL;
	return error_hint(error_new(ENOTSUP, "UDP socket with a datagram that is only half written (UDP_CORK)"),
	                  "try again when the program has sent it");
}

bool inet_look_has_failed(const struct inet_look *look)
{
	struct pollfd poll_fd = {.fd = look->fd};

	return look->tcp.state == CLOSE && poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLERR;
}

/* Has been connected, and knows that it has ended: of a new one, recv(2) says ENOTCONN. */
bool inet_look_has_ended(const struct inet_look *look)
{
	char byte;

	if (look->tcp.state != CLOSE)
		return false;
	return inet_look_has_failed(look) || recv(look->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* Which error waits can be told only by taking it away. Of a connection that was there, a reset it is, nearly always. */
static struct error *check_closed(const struct inet_look *look)
{
	if (inet_look_has_failed(look) && !tcp_was_established(look->fd))
		return error_hint(
			error_new(ENOTSUP, "TCP connection that has failed, and the program hasn't seen it yet"),
			"try again when it has");
	if (look->kind.protocol != IPPROTO_MPTCP || !inet_look_has_ended(look))
		return NULL;
	return error_hint(error_new(ENOTSUP, "connection of multipath TCP that has ended"),
	                  "try again when the program has closed it");
}

struct error *inet_look_check(const struct open_file *file, const struct inet_look *look)
{
	if (!inet_look_is_tcp(look))
		return check_half_written(look);
	if (look->kind.protocol == IPPROTO_TCP && look->tcp.state != CLOSE)
		TRY(tcp_keys_check(file->all, look->fd, &look->own, &look->peer));
	if (look->tcp.state == LISTEN)
		return NULL;
	if (look->tcp.state == CLOSE)
		return check_closed(look);
	TRY(check_multipath(look));
	if (inet_look_is_connection(look))
		return check_connection(file, look);
	return error_hint(error_new(ENOTSUP, "TCP connection that is only being made or unmade"),
	                  "try again in a moment");
}

/* What can have come about since the program was checked. */
struct error *inet_look_check_again(const struct inet_look *look)
{
	if (!inet_look_is_tcp(look))
		return check_half_written(look);
	TRY(check_multipath(look));
	TRY(check_urgent(look));
	return check_closed(look);
}
