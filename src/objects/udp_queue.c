/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "godwit-datagrams.pb-c.h"
#include "objects/loop_packet.h"
#include "objects/socket_options.h"
#include "objects/udp_queue.h"
#include "util/alloc.h"

enum {
	QUEUED_BYTES_MAX = 65535,
	CONTROL_BYTES = 1024,   /* all that socket options add to a datagram */
	SENT_BYTES_MAX = 65488, /* by IPv6, through a loopback device of the usual size */
};

/* ---- Saving ---- */

struct queue {
	int fd; /* borrowed */
	uint64_t inode;
	struct image_store *store;
	uint8_t *room; /* owned; for one datagram, or as many as the kernel has put together */
};

/* What came with a datagram, as far as it can be given to another one. The addresses point into it. */
static void read_control(struct msghdr *message, GodwitDatagram *datagram, size_t *ret_piece_bytes)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		uint8_t *data = CMSG_DATA(part);
		int value = 0;

		memcpy(&value, data, part->cmsg_len >= CMSG_LEN(sizeof(value)) ? sizeof(value) : 1);
		if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO && value > 0) {
			*ret_piece_bytes = (size_t)value;
		} else if ((part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TTL) ||
		           (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_HOPLIMIT)) {
			datagram->has_hops = true;
			datagram->hops = (uint32_t)value;
		} else if ((part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TOS) ||
		           (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_TCLASS)) {
			datagram->has_traffic_class = true;
			datagram->traffic_class = (uint32_t)value;
		} else if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO && datagram->from.len == 4) {
			datagram->has_to = true;
			datagram->to = (ProtobufCBinaryData){4, data + offsetof(struct in_pktinfo, ipi_addr)};
		} else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
			datagram->has_to = true;
			datagram->to = (ProtobufCBinaryData){16, data};
		}
	}
}

/* Several that the kernel has put together (UDP_GRO) are sent one by one. */
static void put(const struct queue *queue, struct msghdr *message, size_t size_bytes)
{
	const union socket_address *from = message->msg_name;
	GodwitDatagram datagram = GODWIT_DATAGRAM__INIT;
	uint8_t *bytes = message->msg_iov->iov_base;
	size_t piece_bytes = size_bytes;
	uint32_t words[4];
	size_t done = 0;

	datagram.from.len = socket_address_words(from, words) * sizeof(words[0]);
	datagram.from.data = (uint8_t *)words;
	datagram.from_port = ntohs(socket_port(from));
	read_control(message, &datagram, &piece_bytes);
	do {
		datagram.data.data = &bytes[done];
		datagram.data.len = size_bytes - done < piece_bytes ? size_bytes - done : piece_bytes;
		if (datagram.data.len <= SENT_BYTES_MAX || datagram.from.len == 4)
			image_put(queue->store, IMAGE_GODWIT_DATAGRAMS, queue->inode, &datagram.base);
		done += datagram.data.len;
	} while (done < size_bytes);
}

/* *ret_bytes stays as it is where there is none at that offset. */
static struct error *peek(const struct queue *queue, int offset, ssize_t *ret_bytes)
{
	union {
		struct cmsghdr align;
		char bytes[CONTROL_BYTES];
	} control;
	union socket_address from = {0};
	struct iovec data = {.iov_base = queue->room, .iov_len = QUEUED_BYTES_MAX};
	struct msghdr message = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};

	TRY(socket_set_peek_offset(queue->fd, offset));
	ssize_t size_bytes = recvmsg(queue->fd, &message, MSG_PEEK | MSG_DONTWAIT);
	if (size_bytes < 0)
		return errno == EAGAIN ? NULL : error_new(errno, "look at datagrams that wait");
	put(queue, &message, (size_t)size_bytes);
	*ret_bytes = size_bytes;
	return NULL;
}

static struct error *peek_all(const struct queue *queue)
{
	int offset = 0;

	for (;;) {
		ssize_t size_bytes = -1;

		TRY(peek(queue, offset, &size_bytes));
		if (size_bytes < 0)
			return NULL;
		offset += (int)size_bytes;
	}
}

bool udp_queue_is_waiting(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLIN && !(poll_fd.revents & POLLERR);
}

struct error *udp_queue_save(int fd, uint64_t inode, struct image_store *store)
{
	struct queue queue = {.fd = fd, .inode = inode, .store = store};
	int before;

	if (!udp_queue_is_waiting(fd))
		return NULL;
	TRY(socket_peek_offset(fd, &before));
	queue.room = xalloc(QUEUED_BYTES_MAX);
	struct error *error = peek_all(&queue);
	free(queue.room);
	return error_join(error, socket_set_peek_offset(fd, before));
}

/* ---- Sending them again ---- */

static bool is_multicast(const union socket_address *address)
{
	return address->any.sa_family == AF_INET ? IN_MULTICAST(ntohl(address->v4.sin_addr.s_addr))
	                                         : IN6_IS_ADDR_MULTICAST(&address->v6.sin6_addr);
}

/* An address that isn't ours, a packet would leave the host for. */
static bool is_here(const union socket_address *address)
{
	union socket_address any_port = *address;
	auto_fd int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (address->any.sa_family == AF_INET)
		any_port.v4.sin_port = 0;
	else
		any_port.v6.sin6_port = 0;
	return fd >= 0 && !is_multicast(address) && bind(fd, &any_port.any, socket_address_bytes(&any_port)) == 0;
}

static bool is_any(const union socket_address *address)
{
	return address->any.sa_family == AF_INET ? address->v4.sin_addr.s_addr == 0
	                                         : IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

static bool set_address(const ProtobufCBinaryData *bytes, union socket_address *address)
{
	bool is_v4 = address->any.sa_family == AF_INET;

	if (bytes->len != (is_v4 ? sizeof(struct in_addr) : sizeof(struct in6_addr)))
		return false;
	memcpy(is_v4 ? (void *)&address->v4.sin_addr : &address->v6.sin6_addr, bytes->data, bytes->len);
	return true;
}

/* For a socket that is bound to all addresses: what the program sees, if it sees any. */
static void choose_own(const GodwitDatagram *datagram, const union socket_address *from, union socket_address *own)
{
	static const uint8_t loopbacks[][16] = {{127, 0, 0, 1}, {[15] = 1}, {[10] = 0xff, 0xff, 127, 0, 0, 1}};
	bool is_v4 = own->any.sa_family == AF_INET;
	size_t which = is_v4 ? 0 : IN6_IS_ADDR_V4MAPPED(&from->v6.sin6_addr) ? 2 : 1;
	const ProtobufCBinaryData loopback = {is_v4 ? 4 : 16, (uint8_t *)(uintptr_t)loopbacks[which]};

	if (datagram->has_to && set_address(&datagram->to, own) && is_here(own))
		return;
	(void)set_address(&loopback, own);
}

static struct error *send_again(const GodwitDatagram *datagram, const union socket_address *own)
{
	size_t segment_bytes = sizeof(struct udphdr) + datagram->data.len;
	auto_free uint8_t *segment = xalloc(segment_bytes);
	const struct udphdr header = {
		.source = htons((uint16_t)datagram->from_port),
		.dest = socket_port(own),
		.len = htons((uint16_t)segment_bytes),
	};
	struct loop_packet packet = {
		.from.any.sa_family = own->any.sa_family,
		.to = *own,
		.protocol = IPPROTO_UDP,
		.hops = (uint8_t)datagram->hops,
		.traffic_class = (uint8_t)datagram->traffic_class,
		.segment = segment,
		.segment_bytes = segment_bytes,
		.checksum_at = offsetof(struct udphdr, check),
	};

	if (segment_bytes > UINT16_MAX || datagram->from_port > UINT16_MAX ||
	    !set_address(&datagram->from, &packet.from))
		return error_new(EBADMSG, "datagram of %zu bytes, from an address of %zu, port %u", datagram->data.len,
		                 datagram->from.len, datagram->from_port);
	if (is_any(own))
		choose_own(datagram, &packet.from, &packet.to);
	else if (!is_here(own))
		return NULL; /* bound to a group: no packet that comes from here is for it alone */
	memcpy(segment, &header, sizeof(header));
	memcpy(&segment[sizeof(header)], datagram->data.data, datagram->data.len);
	return loop_packet_send(&packet);
}

static struct error *send_all(int fd, uint64_t inode, const struct image_store *store)
{
	union socket_address own;
	union socket_address peer;

	TRY(socket_addresses(fd, &own, &peer));
	for (size_t i = 0; i < image_count(store, IMAGE_GODWIT_DATAGRAMS, inode); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_GODWIT_DATAGRAMS, inode, i, &message));
		struct error *error = send_again((GodwitDatagram *)message, &own);
		protobuf_c_message_free_unpacked(message, NULL);
		TRY(error, "datagram %zu that waited", i);
	}
	return NULL;
}

bool udp_queue_was_saved(uint64_t inode, const struct image_store *store)
{
	return image_count(store, IMAGE_GODWIT_DATAGRAMS, inode) > 0;
}

struct error *udp_queue_resume(int fd, uint64_t inode, const struct image_store *store)
{
	int buffer_bytes;

	int r = socket_get(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes);
	if (r < 0)
		return error_new(-r, "getsockopt(SO_RCVBUF)");
	/* Twice the room, since setting doubles it: packets of the loopback device may take more of it than others. */
	TRY(socket_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes, "SO_RCVBUFFORCE"));
	TRY(send_all(fd, inode, store));
	return socket_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes / 2, "SO_RCVBUFFORCE");
}
