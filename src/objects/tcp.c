/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "objects/socket_options.h"
#include "objects/tcp.h"
#include "objects/tcp_segment.h"
#include "tcp-stream.pb-c.h"
#include "util/alloc.h"

/* As in /proc/net/tcp; netinet/tcp.h, which can't be included beside linux/tcp.h. */
enum {
	ESTABLISHED = 1,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	CLOSED = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	CLOSING = 11,
};

/* Codes of options in a segment: RFC 9293, RFC 7323, RFC 2018. */
enum { OPTION_MSS = 2, OPTION_WINDOW = 3, OPTION_SACK = 4, OPTION_TIMESTAMP = 8 };

enum {
	QUEUE_BYTES_MAX = 256 << 20,
	PIECE_BYTES = 256 << 10,
	SEGMENT_BYTES_MIN = 88, /* TCP_MIN_MSS and MAX_TCP_WINDOW of Linux: what TCP_MAXSEG takes */
	SEGMENT_BYTES_MAX = 32767,
	FLIGHT_SEGMENTS = 8, /* a new connection may send 10 at once */
	END_MS = 1000,       /* that a segment to ourselves may take */
};

/* Of a connection to ourselves: discard, or its neighbour. */
enum { NOWHERE_PORT = 9 };

bool tcp_is_connection(uint32_t state)
{
	return state == ESTABLISHED || state == FIN_WAIT1 || state == FIN_WAIT2 || state == CLOSE_WAIT ||
	       state == LAST_ACK || state == CLOSING;
}

/* We have closed our half. */
static bool has_own_end(uint32_t state)
{
	return state == FIN_WAIT1 || state == FIN_WAIT2 || state == LAST_ACK || state == CLOSING;
}

/* And the peer doesn't know yet, as far as we know. */
static bool is_own_end_pending(uint32_t state)
{
	return has_own_end(state) && state != FIN_WAIT2;
}

/* The peer has closed its half. */
static bool has_peer_end(uint32_t state)
{
	return state == CLOSE_WAIT || state == LAST_ACK || state == CLOSING;
}

/* What all that is asked for lies in: the kernel copies no more. */
enum { INFO_BYTES = offsetof(struct tcp_info, tcpi_segs_in) + sizeof(((struct tcp_info *)NULL)->tcpi_segs_in) };

bool tcp_has_state(int fd, struct tcp_socket_state *ret_state)
{
	struct tcp_info info = {0};
	socklen_t size = INFO_BYTES;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
		return false;
	ret_state->state = info.tcpi_state;
	/* For a listener these two mean something else: tcp_get_info() of Linux. */
	ret_state->waiting = info.tcpi_unacked;
	ret_state->backlog = info.tcpi_sacked;
	ret_state->was_connected = info.tcpi_segs_in > 0;
	ret_state->options = info.tcpi_options;
	ret_state->send_scale = info.tcpi_snd_wscale;
	ret_state->receive_scale = info.tcpi_rcv_wscale;
	return true;
}

struct error *tcp_state(int fd, struct tcp_socket_state *ret_state)
{
	return tcp_has_state(fd, ret_state) ? NULL : error_new(errno, "getsockopt(TCP_INFO)");
}

bool tcp_was_established(int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	/* Counts are 0 in a connection that was brought here; the peer's window is none before it has said anything. */
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
	       (info.tcpi_bytes_received > 0 || info.tcpi_bytes_acked > 0 || info.tcpi_snd_wnd > 0);
}

static struct error *set(int fd, int name, int value, const char *what)
{
	return socket_set(fd, IPPROTO_TCP, name, value, what);
}

static struct error *set_repair(int fd, int value)
{
	return error_hint(set(fd, TCP_REPAIR, value, "TCP_REPAIR"), "CAP_NET_ADMIN is needed for TCP connections");
}

struct error *tcp_begin(int fd)
{
	return set_repair(fd, TCP_REPAIR_ON);
}

bool tcp_is_held(int fd)
{
	int value;

	return socket_get(fd, IPPROTO_TCP, TCP_REPAIR, &value) == 0 && value == TCP_REPAIR_ON;
}

struct error *tcp_go_on(int fd)
{
	return set_repair(fd, TCP_REPAIR_OFF_NO_WP);
}

/* ---- Saving ---- */

static struct error *read_options(int fd, const struct tcp_socket_state *state, TcpStreamEntry *stream)
{
	int mss;
	int timestamp;

	int r = socket_get(fd, IPPROTO_TCP, TCP_MAXSEG, &mss);
	if (r >= 0)
		r = socket_get(fd, IPPROTO_TCP, TCP_TIMESTAMP, &timestamp);
	if (r < 0)
		return error_new(-r, "getsockopt(TCP_MAXSEG, TCP_TIMESTAMP)");
	stream->opt_mask = state->options;
	stream->snd_wscale = state->send_scale;
	stream->has_rcv_wscale = true;
	stream->rcv_wscale = state->receive_scale;
	stream->mss_clamp = (uint32_t)mss;
	stream->has_timestamp = state->options & TCPI_OPT_TIMESTAMPS;
	stream->timestamp = (uint32_t)timestamp;
	return NULL;
}

static struct error *read_window(int fd, TcpStreamEntry *stream)
{
	struct tcp_repair_window window;
	socklen_t size = sizeof(window);

	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &size) < 0)
		return error_new(errno, "getsockopt(TCP_REPAIR_WINDOW)");
	stream->has_snd_wl1 = true;
	stream->snd_wl1 = window.snd_wl1;
	stream->has_snd_wnd = true;
	stream->snd_wnd = window.snd_wnd;
	stream->has_max_window = true;
	stream->max_window = window.max_window;
	stream->has_rcv_wnd = true;
	stream->rcv_wnd = window.rcv_wnd;
	stream->has_rcv_wup = true;
	stream->rcv_wup = window.rcv_wup;
	return NULL;
}

static struct error *read_sequence(int fd, int queue, uint32_t *ret_sequence)
{
	int sequence;

	TRY(set(fd, TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE"));
	int r = socket_get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence);
	if (r < 0)
		return error_new(-r, "getsockopt(TCP_QUEUE_SEQ)");
	*ret_sequence = (uint32_t)sequence;
	return NULL;
}

static struct error *queue_bytes(int fd, unsigned long request, const char *what, uint32_t *ret_bytes)
{
	int bytes = 0;

	if (ioctl(fd, request, &bytes) < 0)
		return error_new(errno, "ioctl(%s)", what);
	*ret_bytes = (uint32_t)bytes;
	return NULL;
}

/* What waits in the queue that TCP_REPAIR_QUEUE names, without taking it out. */
static struct error *peek(int fd, uint32_t size_bytes, uint8_t **ret_bytes)
{
	*ret_bytes = NULL;
	if (size_bytes == 0)
		return NULL;
	if (size_bytes > QUEUE_BYTES_MAX)
		return error_new(EFBIG, "queue of %u bytes", size_bytes);
	auto_free uint8_t *bytes = malloc(size_bytes);
	if (!bytes)
		return error_new(ENOMEM, "queue of %u bytes", size_bytes);
	ssize_t n = recv(fd, bytes, size_bytes, MSG_PEEK | MSG_DONTWAIT);
	if (n != (ssize_t)size_bytes)
		return error_new(n < 0 ? errno : EPROTO, "queue of %u bytes: %zd could be read", size_bytes, n);
	*ret_bytes = take(bytes);
	return NULL;
}

static struct error *read_stream(int fd, const struct tcp_socket_state *state, TcpStreamEntry *stream, uint8_t **ret_in,
                                 uint8_t **ret_out)
{
	TRY(read_options(fd, state, stream));
	TRY(read_window(fd, stream));
	TRY(read_sequence(fd, TCP_SEND_QUEUE, &stream->outq_seq));
	TRY(queue_bytes(fd, SIOCOUTQ, "SIOCOUTQ", &stream->outq_len));
	stream->has_unsq_len = true;
	TRY(queue_bytes(fd, SIOCOUTQNSD, "SIOCOUTQNSD", &stream->unsq_len));
	/* The FIN counts as one byte, and is sent last. */
	if (is_own_end_pending(state->state) && stream->outq_len > 0)
		stream->outq_len--;
	if (is_own_end_pending(state->state) && stream->unsq_len > 0)
		stream->unsq_len--;
	TRY(peek(fd, stream->outq_len, ret_out));
	TRY(read_sequence(fd, TCP_RECV_QUEUE, &stream->inq_seq));
	TRY(queue_bytes(fd, SIOCINQ, "SIOCINQ", &stream->inq_len));
	return peek(fd, stream->inq_len, ret_in);
}

struct error *tcp_save(int fd, const struct tcp_socket_state *state, uint64_t inode, struct image_store *store)
{
	TcpStreamEntry stream = TCP_STREAM_ENTRY__INIT;
	auto_free uint8_t *in = NULL;
	auto_free uint8_t *out = NULL;

	TRY(tcp_begin(fd));
	TRY(read_stream(fd, state, &stream, &in, &out));
	TRY(set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE, "TCP_REPAIR_QUEUE"));
	image_put(store, IMAGE_TCP_STREAM, inode, &stream.base);
	image_put_bytes(store, IMAGE_TCP_STREAM, inode, in, stream.inq_len);
	image_put_bytes(store, IMAGE_TCP_STREAM, inode, out, stream.outq_len);
	return NULL;
}

/* ---- Restoring ---- */

struct queues {
	const TcpStreamEntry *stream;
	const uint8_t *in, *out; /* borrowed from the store */
	uint32_t in_sequence;    /* of the first byte in the receive queue */
	uint32_t out_sequence;   /* of the first byte that the peer may not have */
};

static void stream_free(TcpStreamEntry *stream)
{
	if (stream)
		tcp_stream_entry__free_unpacked(stream, NULL);
}
DEFINE_OWNED(TcpStreamEntry *, stream_free)
#define auto_stream AUTO(stream_free)

static struct error *get_stream(const struct image_store *store, uint64_t inode, uint32_t state,
                                TcpStreamEntry **ret_stream, struct queues *ret_queues)
{
	const uint8_t *bytes;
	size_t size_bytes;

	TRY(image_get(store, IMAGE_TCP_STREAM, inode, 0, (ProtobufCMessage **)ret_stream));
	const TcpStreamEntry *stream = *ret_stream;
	image_get_bytes(store, IMAGE_TCP_STREAM, inode, 0, &bytes, &size_bytes);
	if (size_bytes != (uint64_t)stream->inq_len + stream->outq_len)
		return error_new(EBADMSG, "TCP queues of %zu bytes", size_bytes);
	ret_queues->stream = stream;
	ret_queues->in = bytes;
	ret_queues->out = bytes + stream->inq_len;
	ret_queues->in_sequence = stream->inq_seq - stream->inq_len - has_peer_end(state);
	ret_queues->out_sequence = stream->outq_seq - stream->outq_len - has_own_end(state);
	return NULL;
}

static struct error *set_sequence(int fd, int queue, uint32_t sequence)
{
	TRY(set(fd, TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE"));
	return set(fd, TCP_QUEUE_SEQ, (int)sequence, "TCP_QUEUE_SEQ");
}

/* The size of segments is computed when the connection is made: it would be that of the smallest ones for ever. */
static struct error *set_segment_size(int fd, uint32_t mss)
{
	if (mss < SEGMENT_BYTES_MIN)
		return NULL;
	return set(fd, TCP_MAXSEG, mss < SEGMENT_BYTES_MAX ? (int)mss : SEGMENT_BYTES_MAX, "TCP_MAXSEG");
}

/* bind(2) and connect(2) in repair mode send nothing, and work before the address is there. */
static struct error *connect_silently(int fd, const union socket_address *own, const union socket_address *peer,
                                      uint32_t mss)
{
	TRY(set_segment_size(fd, mss));
	TRY(socket_set(fd, IPPROTO_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT"));
	if (bind(fd, &own->any, socket_address_bytes(own)) < 0)
		return error_new(errno, "bind");
	if (connect(fd, &peer->any, socket_address_bytes(peer)) < 0)
		return error_new(errno, "connect in repair mode");
	return set(fd, TCP_MAXSEG, 0, "TCP_MAXSEG");
}

static struct error *set_options(int fd, const TcpStreamEntry *stream)
{
	struct tcp_repair_opt options[4];
	socklen_t count = 0;

	options[count++] = (struct tcp_repair_opt){OPTION_MSS, stream->mss_clamp};
	if (stream->opt_mask & TCPI_OPT_WSCALE)
		options[count++] =
			(struct tcp_repair_opt){OPTION_WINDOW, stream->snd_wscale | stream->rcv_wscale << 16};
	if (stream->opt_mask & TCPI_OPT_SACK)
		options[count++] = (struct tcp_repair_opt){OPTION_SACK, 0};
	if (stream->opt_mask & TCPI_OPT_TIMESTAMPS)
		options[count++] = (struct tcp_repair_opt){OPTION_TIMESTAMP, 0};
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, count * (socklen_t)sizeof(options[0])) < 0)
		return error_new(errno, "setsockopt(TCP_REPAIR_OPTIONS)");
	if (stream->has_timestamp)
		TRY(set(fd, TCP_TIMESTAMP, (int)stream->timestamp, "TCP_TIMESTAMP"));
	return NULL;
}

/* More than the program may have allowed: it was in the queue, so it has to fit. */
static struct error *make_room(int fd, uint32_t size_bytes, int *ret_former)
{
	int r = socket_get(fd, SOL_SOCKET, SO_SNDBUF, ret_former);

	if (r < 0)
		return error_new(-r, "getsockopt(SO_SNDBUF)");
	if (size_bytes > INT32_MAX / 8)
		return error_new(EBADMSG, "send queue of %u bytes", size_bytes);
	if ((uint32_t)*ret_former < size_bytes * 4)
		TRY(socket_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)size_bytes * 2, "SO_SNDBUFFORCE"));
	return NULL;
}

/* In repair mode: into the queue that is named. */
static struct error *fill_queue(int fd, int queue, const uint8_t *bytes, uint32_t size_bytes)
{
	TRY(set(fd, TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE"));
	for (uint32_t done = 0; done < size_bytes;) {
		uint32_t piece_bytes = size_bytes - done;

		if (piece_bytes > PIECE_BYTES)
			piece_bytes = PIECE_BYTES;
		ssize_t n = send(fd, bytes + done, piece_bytes, MSG_DONTWAIT);
		if (n <= 0)
			return error_new(n < 0 ? errno : EPROTO, "%u of %u bytes put into the queue", done, size_bytes);
		done += (uint32_t)n;
	}
	return NULL;
}

/*
 * How much of the send queue is put back as sent. What one flight has room for is rather sent once more: that is
 * quick, whether the peer has it or not. With more, the peer may acknowledge what this socket doesn't know it has sent,
 * which the kernel doesn't believe (tcp_ack() of Linux), and nothing would ever move.
 */
static uint32_t sent_bytes(const TcpStreamEntry *stream)
{
	uint32_t unsent = stream->has_unsq_len ? stream->unsq_len : 0;
	uint32_t sent = unsent < stream->outq_len ? stream->outq_len - unsent : 0;

	return sent > FLIGHT_SEGMENTS * stream->mss_clamp || sent > stream->snd_wnd ? sent : 0;
}

static struct error *fill_queues(int fd, const struct queues *queues)
{
	uint32_t sent = sent_bytes(queues->stream);
	int former;

	TRY(fill_queue(fd, TCP_RECV_QUEUE, queues->in, queues->stream->inq_len));
	if (sent == 0)
		return NULL;
	TRY(make_room(fd, queues->stream->outq_len, &former));
	return fill_queue(fd, TCP_SEND_QUEUE, queues->out, sent);
}

static struct error *set_window(int fd, const TcpStreamEntry *stream, uint32_t state)
{
	const struct tcp_repair_window window = {
		.snd_wl1 = stream->snd_wl1,
		.snd_wnd = stream->snd_wnd,
		.max_window = stream->max_window,
		.rcv_wnd = stream->rcv_wnd,
		/* Without the peer's FIN, which comes later. */
		.rcv_wup = stream->rcv_wup - (has_peer_end(state) && stream->rcv_wup == stream->inq_seq),
	};

	if (!stream->has_snd_wnd)
		return NULL;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)) < 0)
		return error_new(errno, "setsockopt(TCP_REPAIR_WINDOW)");
	return NULL;
}

struct error *tcp_restore(int fd, uint32_t state, uint64_t inode, const union socket_address *own,
                          const union socket_address *peer, const struct image_store *store)
{
	auto_stream TcpStreamEntry *stream = NULL;
	struct queues queues;

	TRY(get_stream(store, inode, state, &stream, &queues));
	TRY(tcp_begin(fd));
	TRY(set_sequence(fd, TCP_SEND_QUEUE, queues.out_sequence));
	TRY(set_sequence(fd, TCP_RECV_QUEUE, queues.in_sequence));
	TRY(connect_silently(fd, own, peer, stream->mss_clamp));
	TRY(set_options(fd, stream));
	TRY(fill_queues(fd, &queues));
	TRY(set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE, "TCP_REPAIR_QUEUE"));
	return set_window(fd, stream, state);
}

/* ---- The network is open ---- */

/* What isn't in the queue yet. */
static struct error *send_rest(int fd, const struct queues *queues)
{
	uint32_t size_bytes = queues->stream->outq_len;
	int former;

	if (size_bytes == 0)
		return NULL;
	TRY(make_room(fd, size_bytes, &former));
	for (uint32_t done = sent_bytes(queues->stream); done < size_bytes;) {
		ssize_t n = send(fd, queues->out + done, size_bytes - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return error_new(n < 0 ? errno : EPROTO, "%u of %u bytes sent again", done, size_bytes);
		done += (uint32_t)n;
	}
	return NULL;
}

struct error *tcp_resume(int fd, uint32_t state, uint64_t inode, const struct image_store *store)
{
	auto_stream TcpStreamEntry *stream = NULL;
	struct queues queues;

	TRY(get_stream(store, inode, state, &stream, &queues));
	/* The probe makes the peer say what it has. */
	TRY(sent_bytes(stream) ? set_repair(fd, TCP_REPAIR_OFF) : tcp_go_on(fd));
	auto_error struct error *unsent = send_rest(fd, &queues);
	/* Its peer may have ended it since the network is open: the program sees that. */
	if (unsent && (error_errnum(unsent) == EPIPE || error_errnum(unsent) == ECONNRESET))
		return NULL;
	TRY(take(unsent));
	if (has_peer_end(state))
		TRY(tcp_segment_send_end(fd, stream->inq_seq - 1, queues.out_sequence,
		                         stream->snd_wnd >> stream->snd_wscale));
	if (has_own_end(state) && shutdown(fd, SHUT_WR) < 0 && errno != ENOTCONN)
		return error_new(errno, "shutdown");
	return NULL;
}

/* ---- One that has ended ---- */

struct error *tcp_save_ended(int fd, uint64_t inode, struct image_store *store)
{
	TcpStreamEntry stream = TCP_STREAM_ENTRY__INIT;
	auto_free uint8_t *in = NULL;

	TRY(queue_bytes(fd, SIOCINQ, "SIOCINQ", &stream.inq_len));
	TRY(peek(fd, stream.inq_len, &in));
	stream.inq_seq = 1 + stream.inq_len;
	stream.outq_seq = 1;
	stream.mss_clamp = TCP_MSS_DEFAULT;
	stream.has_snd_wnd = true;
	stream.snd_wnd = UINT16_MAX;
	stream.has_max_window = true;
	stream.max_window = UINT16_MAX;
	stream.has_rcv_wnd = true;
	stream.rcv_wnd = UINT16_MAX;
	stream.has_snd_wl1 = true;
	stream.snd_wl1 = stream.inq_seq;
	stream.has_rcv_wup = true;
	stream.rcv_wup = stream.inq_seq;
	image_put(store, IMAGE_TCP_STREAM, inode, &stream.base);
	image_put_bytes(store, IMAGE_TCP_STREAM, inode, in, stream.inq_len);
	return NULL;
}

bool tcp_has_ended(uint64_t inode, const struct image_store *store)
{
	return image_count(store, IMAGE_TCP_STREAM, inode) > 0;
}

struct error *tcp_restore_ended(int fd, uint64_t inode, const union socket_address *own,
                                const struct image_store *store)
{
	auto_stream TcpStreamEntry *stream = NULL;
	union socket_address nowhere = *own;
	struct queues queues;

	TRY(get_stream(store, inode, CLOSED, &stream, &queues));
	/* The port is at the same place for both families. */
	nowhere.v4.sin_port = htons(socket_port(own) == htons(NOWHERE_PORT) ? NOWHERE_PORT + 1 : NOWHERE_PORT);
	TRY(tcp_begin(fd));
	TRY(set_sequence(fd, TCP_SEND_QUEUE, queues.out_sequence));
	TRY(set_sequence(fd, TCP_RECV_QUEUE, queues.in_sequence));
	TRY(connect_silently(fd, own, &nowhere, stream->mss_clamp));
	TRY(fill_queue(fd, TCP_RECV_QUEUE, queues.in, stream->inq_len));
	TRY(set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE, "TCP_REPAIR_QUEUE"));
	return set_window(fd, stream, CLOSED);
}

struct error *tcp_resume_ended(int fd, uint64_t inode, bool is_told, const struct image_store *store)
{
	auto_stream TcpStreamEntry *stream = NULL;
	struct pollfd poll_fd = {.fd = fd};
	struct queues queues;
	int error;

	TRY(get_stream(store, inode, CLOSED, &stream, &queues));
	TRY(tcp_go_on(fd));
	TRY(tcp_segment_send_reset(fd, stream->inq_seq));
	if (poll(&poll_fd, 1, END_MS) != 1 || !(poll_fd.revents & POLLHUP))
		return error_new(ETIMEDOUT, "end of a connection that had ended");
	if (!is_told)
		return NULL;
	/* Which tells of the reset, and forgets it. */
	int r = socket_get(fd, SOL_SOCKET, SO_ERROR, &error);
	return r < 0 ? error_new(-r, "getsockopt(SO_ERROR)") : NULL;
}
