/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "objects/socket_options.h"
#include "objects/unix_name.h"
#include "objects/unix_queue.h"
#include "util/alloc.h"

enum {
	PASS_PIDFD = 4, /* SCM_PIDFD, Linux 6.5 */
	LABEL_BYTES_MAX = 4096,
	PACKET_BYTES = 64 * 1024, /* at first */
	CONTROL_BYTES = CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(LABEL_BYTES_MAX) +
	                CMSG_SPACE(UNIX_RIGHTS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(int)),
};

/* ---- Looking ---- */

struct peeked {
	uint8_t *bytes; /* owned */
	size_t size_bytes;
	int rights[UNIX_RIGHTS_MAX]; /* owned */
	size_t right_count;
	bool has_credentials;
	struct ucred credentials;
	struct sockaddr_un name; /* of who sent it */
	socklen_t name_bytes;
};

static void close_rights(struct peeked *peeked)
{
	while (peeked->right_count > 0)
		close(peeked->rights[--peeked->right_count]);
}

static void peeked_free(struct peeked *peeked)
{
	free(peeked->bytes);
	close_rights(peeked);
}
#define auto_peeked __attribute__((cleanup(peeked_free)))

/* Descriptors that came along are ours from then on. */
static void take_control(struct msghdr *message, struct peeked *peeked)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		size_t bytes = part->cmsg_len - CMSG_LEN(0);
		int pidfd;

		if (part->cmsg_level != SOL_SOCKET)
			continue;
		if (part->cmsg_type == SCM_RIGHTS && bytes <= sizeof(peeked->rights)) {
			memcpy(peeked->rights, CMSG_DATA(part), bytes);
			peeked->right_count = bytes / sizeof(int);
		} else if (part->cmsg_type == SCM_CREDENTIALS && bytes == sizeof(peeked->credentials)) {
			memcpy(&peeked->credentials, CMSG_DATA(part), bytes);
			peeked->has_credentials = true;
		} else if (part->cmsg_type == PASS_PIDFD && bytes == sizeof(pidfd)) {
			memcpy(&pidfd, CMSG_DATA(part), bytes);
			close(pidfd);
		}
	}
}

/* From offset on, into size_bytes at peeked->bytes. What is returned is as recvmsg(2). */
static ssize_t peek(int fd, int offset, size_t size_bytes, int flags, struct peeked *peeked)
{
	union {
		struct cmsghdr align;
		char bytes[CONTROL_BYTES];
	} control;
	struct iovec data = {.iov_base = peeked->bytes, .iov_len = size_bytes};
	struct msghdr message = {
		.msg_name = &peeked->name,
		.msg_namelen = sizeof(peeked->name),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};

	auto_error struct error *error = socket_set_peek_offset(fd, offset);
	if (error)
		return -1;
	ssize_t count = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);
	if (count < 0)
		return count;
	peeked->name_bytes = message.msg_namelen;
	take_control(&message, peeked);
	return count;
}

/* All that waits; of datagrams the first one. */
static int waiting_bytes(int fd)
{
	int bytes = 0;

	return ioctl(fd, SIOCINQ, &bytes) < 0 ? 0 : bytes;
}

/*
 * Of size_bytes of a stream whose last part came with descriptors: where that part begins. Looking at fewer bytes doesn't
 * tell: the kernel goes on to the next part even for none of its bytes. But it copies each part by itself, so where the
 * very last byte can't be copied, it stops in front of the last part.
 */
static struct error *rights_begin(const struct unix_queue *queue, int offset, const struct peeked *peeked,
                                  size_t *ret_bytes)
{
	void *nowhere = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec data[] = {
		{.iov_base = peeked->bytes, .iov_len = peeked->size_bytes - 1},
		{.iov_base = nowhere, .iov_len = 1},
	};
	struct msghdr message = {.msg_iov = data, .msg_iovlen = 2};

	if (nowhere == MAP_FAILED)
		return error_new(errno, "mmap");
	struct error *error = socket_set_peek_offset(queue->fd, offset);
	ssize_t count = error ? 0 : recvmsg(queue->fd, &message, MSG_PEEK | MSG_DONTWAIT);
	if (count < 0 && errno != EFAULT)
		error = error_new(errno, "recvmsg(MSG_PEEK) at offset %d, but for a byte", offset);
	*ret_bytes = count < 0 ? 0 : (size_t)count;
	munmap(nowhere, 1);
	return error;
}

/* *ret_count is as recvmsg(2) returns it with these flags. */
static struct error *peek_at(const struct unix_queue *queue, int offset, size_t size_bytes, int flags,
                             struct peeked *peeked, ssize_t *ret_count)
{
	peeked->bytes = malloc(size_bytes);
	if (!peeked->bytes)
		return error_new(ENOMEM, "buffer of %zu bytes", size_bytes);
	*ret_count = peek(queue->fd, offset, size_bytes, flags, peeked);
	if (*ret_count < 0 && errno != EAGAIN)
		return error_new(errno, "recvmsg(MSG_PEEK) at offset %d", offset);
	peeked->size_bytes = *ret_count < 0 ? 0 : (size_t)*ret_count;
	return NULL;
}

static void forget(struct peeked *peeked)
{
	peeked_free(peeked);
	*peeked = (struct peeked){0};
}

/* Up to where descriptors begin, or with them. *ret_is_end: there is nothing any more. */
static struct error *look_at_stream(const struct unix_queue *queue, int offset, struct peeked *peeked, bool *ret_is_end)
{
	int total = waiting_bytes(queue->fd);
	size_t before = 0;
	ssize_t count = 0;

	*ret_is_end = total <= offset;
	if (*ret_is_end)
		return NULL;
	TRY(peek_at(queue, offset, (size_t)(total - offset), 0, peeked, &count));
	if (count <= 0)
		return error_new(EIO, "stream of %d bytes that end at %d", total, offset);
	if (peeked->right_count == 0)
		return NULL;
	TRY(rights_begin(queue, offset, peeked, &before));
	if (before == 0)
		return NULL;
	/* The last part is left to the next look. */
	close_rights(peeked);
	peeked->size_bytes = before;
	return NULL;
}

/* Behind the last packet that a closed other end has sent, there is an end of 0 bytes, for ever. */
static bool is_at_end(const struct unix_queue *queue, int offset)
{
	struct pollfd poll_fd = {.fd = queue->fd, .events = POLLRDHUP};

	return queue->type == SOCK_SEQPACKET && (offset < 0 ? 0 : offset) >= waiting_bytes(queue->fd) &&
	       poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLRDHUP);
}

/* In one look: one of 0 bytes is passed over by the next. */
static struct error *look_at_packet(const struct unix_queue *queue, int offset, struct peeked *peeked, bool *ret_is_end)
{
	size_t room_bytes = PACKET_BYTES;
	ssize_t count = 0;

	TRY(peek_at(queue, offset, room_bytes, MSG_TRUNC, peeked, &count));
	if (count > (ssize_t)room_bytes) {
		room_bytes = (size_t)count;
		forget(peeked);
		TRY(peek_at(queue, offset, room_bytes, MSG_TRUNC, peeked, &count));
	}
	*ret_is_end = count < 0 || (count == 0 && peeked->right_count == 0 && is_at_end(queue, offset));
	return NULL;
}

typedef struct error *on_packet(const struct unix_queue *queue, struct peeked *packet, void *context);

/* NOLINTBEGIN(clang-analyzer-unix.Malloc): it doesn't see that auto_peeked frees the bytes */
static struct error *each_packet(const struct unix_queue *queue, on_packet *call, void *context)
{
	int offset = 0;

	for (size_t count = 0; count < UNIX_PACKETS_MAX; count++) {
		auto_peeked struct peeked packet = {0};
		bool is_end = false;

		/* With an offset, a packet of no bytes is passed over if it has been seen before: the first one has none. */
		TRY(queue->type == SOCK_STREAM ? look_at_stream(queue, offset, &packet, &is_end)
		                               : look_at_packet(queue, count == 0 ? -1 : offset, &packet, &is_end));
		if (is_end)
			return NULL;
		offset += (int)packet.size_bytes;
		TRY(call(queue, &packet, context));
	}
	return error_new(EOVERFLOW, "more than %d packets wait", UNIX_PACKETS_MAX);
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

/* The offset is the program's own again, whatever comes. */
static struct error *walk(const struct unix_queue *queue, on_packet *call, void *context)
{
	int before;

	TRY(socket_peek_offset(queue->fd, &before));
	struct error *error = each_packet(queue, call, context);
	return error_join(error, socket_set_peek_offset(queue->fd, before));
}

bool unix_queue_is_empty(const struct unix_queue *queue)
{
	struct pollfd poll_fd = {.fd = queue->fd, .events = POLLIN};

	/* Looking at a packet of no bytes would leave a mark. */
	return poll(&poll_fd, 1, 0) != 1 || !(poll_fd.revents & POLLIN);
}

/* ---- In flight ---- */

struct rights {
	int *fds; /* owned */
	size_t count;
};

static struct error *collect(const struct unix_queue *queue, struct peeked *packet, void *context)
{
	struct rights *rights = context;

	(void)queue;
	rights->fds = xrealloc(rights->fds, (rights->count + packet->right_count + 1) * sizeof(int));
	memcpy(rights->fds + rights->count, packet->rights, packet->right_count * sizeof(int));
	rights->count += packet->right_count;
	packet->right_count = 0;
	return NULL;
}

struct error *unix_queue_in_flight(const struct unix_queue *queue, int **ret_fds, size_t *ret_count)
{
	struct rights rights = {0};
	struct error *error = walk(queue, collect, &rights);

	if (error) {
		for (size_t i = 0; i < rights.count; i++)
			close(rights.fds[i]);
		free(rights.fds);
		return error;
	}
	*ret_fds = rights.fds;
	*ret_count = rights.count;
	return NULL;
}

/* ---- Saving ---- */

struct saving {
	unix_find_name *find;
	GodwitSocketEntry *extras;
	struct image_store *store;
};

/* One that has a number, too, is made for that one. */
static struct error *check_flight(const struct open_file *file)
{
	const struct file_ops *ops = file->pid == getpid() ? file_ops_for(file) : NULL;

	if (!ops ||
	    (!ops->resume && !ops->finish && !(file->status_flags & O_ASYNC) && !strstr(file->fdinfo, "\nlock:")) ||
	    ops->type == FD_TYPES__UNIXSK)
		return NULL;
	return error_hint(
		error_new(ENOTSUP,
	                  "this kind of file, or one with a lock, can't be carried while it is only in flight"),
		"try again when the program has received it");
}

static struct error *find_rights(const struct unix_queue *queue, const struct peeked *packet, uint32_t *ret_ids)
{
	for (size_t i = 0; i < packet->right_count; i++) {
		const struct open_file *file = open_files_same(queue->file->all, packet->rights[i]);

		if (!file)
			return error_new(EAGAIN, "a descriptor in flight that was not there before");
		TRY(check_flight(file), "%s in flight", file->link);
		ret_ids[i] = file->id;
	}
	return NULL;
}

static struct error *note_sender(const struct unix_queue *queue, const struct peeked *packet,
                                 const struct saving *saving, GodwitPacket *more)
{
	size_t name_bytes = packet->name_bytes - offsetof(struct sockaddr_un, sun_path);

	/* The other end of a connection is no news. */
	if (queue->type != SOCK_DGRAM || packet->name_bytes <= offsetof(struct sockaddr_un, sun_path))
		return NULL;
	const struct open_file *sender = saving->find(queue->file->all, packet->name.sun_path, name_bytes);
	if (!sender)
		return error_hint(error_new(ENOTSUP, "a datagram waits from %s%.*s, which is no socket of the program",
		                            packet->name.sun_path[0] ? "" : "@",
		                            (int)name_bytes - !packet->name.sun_path[0],
		                            packet->name.sun_path + !packet->name.sun_path[0]),
		                  "try again when the program has read it");
	more->has_from = true;
	more->from = sender->id;
	return NULL;
}

static struct error *note_credentials(const struct unix_queue *queue, const struct peeked *packet, GodwitPacket *more)
{
	const struct ucred *credentials = &packet->credentials;

	/* 0: it was sent before anybody asked for credentials. */
	if (!queue->passes_credentials || !packet->has_credentials || credentials->pid == 0)
		return NULL;
	const struct open_task *sender = open_files_task(queue->file->all, credentials->pid);
	if (!sender)
		return error_hint(
			error_new(ENOTSUP, "a message with the credentials of process %d waits", credentials->pid),
			"try again when the program has read it");
	more->has_pid = true;
	more->pid = sender->own_pid;
	more->has_uid = true;
	more->uid = credentials->uid;
	more->has_gid = true;
	more->gid = credentials->gid;
	return NULL;
}

/* Packets of the extras are one for each of sk-queues.img. */
static GodwitPacket *add_extra(GodwitSocketEntry *extras)
{
	GodwitPacket *more = xalloc(sizeof(*more));

	godwit_packet__init(more);
	extras->packets = xrealloc(extras->packets, (extras->n_packets + 1) * sizeof(*extras->packets));
	extras->packets[extras->n_packets++] = more;
	return more;
}

static struct error *put_packet(const struct unix_queue *queue, struct peeked *packet, void *context)
{
	const struct saving *saving = context;
	SkPacketEntry entry = SK_PACKET_ENTRY__INIT;
	ScmEntry scm = SCM_ENTRY__INIT;
	ScmEntry *scms[] = {&scm};
	uint32_t ids[UNIX_RIGHTS_MAX];
	GodwitPacket *more = add_extra(saving->extras);

	TRY(find_rights(queue, packet, ids));
	TRY(note_sender(queue, packet, saving, more));
	TRY(note_credentials(queue, packet, more));
	entry.id_for = queue->file->id;
	entry.length = (uint32_t)packet->size_bytes;
	scm.type = SCM_RIGHTS;
	scm.n_rights = packet->right_count;
	scm.rights = ids;
	entry.n_scm = packet->right_count > 0;
	entry.scm = scms;
	image_put(saving->store, IMAGE_SK_QUEUES, 0, &entry.base);
	image_put_bytes(saving->store, IMAGE_SK_QUEUES, 0, packet->bytes, packet->size_bytes);
	return NULL;
}

struct error *unix_queue_save(const struct unix_queue *queue, unix_find_name *find, GodwitSocketEntry *extras,
                              struct image_store *store)
{
	struct saving saving = {.find = find, .extras = extras, .store = store};

	return walk(queue, put_packet, &saving);
}

void unix_queue_free_extras(GodwitSocketEntry *extras)
{
	for (size_t i = 0; i < extras->n_packets; i++)
		free(extras->packets[i]);
	free(extras->packets);
	extras->packets = NULL;
	extras->n_packets = 0;
}

/* ---- Restoring ---- */

static void add_control(struct msghdr *message, int type, const void *bytes, size_t size_bytes)
{
	struct cmsghdr *part = (struct cmsghdr *)(void *)((char *)message->msg_control + message->msg_controllen);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = type;
	part->cmsg_len = CMSG_LEN(size_bytes);
	memcpy(CMSG_DATA(part), bytes, size_bytes);
	message->msg_controllen += CMSG_SPACE(size_bytes);
}

/* All at once: only the first part of a message that is cut carries descriptors. */
static struct error *send_whole(int fd, struct msghdr *message, size_t size_bytes)
{
	ssize_t count = sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (count < 0)
		return errno == EAGAIN ? error_hint(error_new(EAGAIN, "send %zu bytes again", size_bytes),
		                                    "sysctl net.unix.max_dgram_qlen must be as high as it was there")
		                       : error_new(errno, "send %zu bytes again", size_bytes);
	if ((size_t)count != size_bytes)
		return error_new(ENOSPC, "%zd of %zu bytes fit into the queue", count, size_bytes);
	return NULL;
}

struct error *unix_packet_send(int fd, const struct unix_packet *packet, const struct unix_name *address)
{
	union {
		struct cmsghdr align;
		char bytes[CONTROL_BYTES];
	} control;
	struct iovec data = {.iov_base = (void *)(uintptr_t)packet->bytes, .iov_len = packet->entry->length};
	struct msghdr message = {
		.msg_name = address ? (void *)(uintptr_t)&address->address : NULL,
		.msg_namelen = address ? address->bytes : 0,
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
	};
	const GodwitPacket *more = packet->more;

	memset(&control, 0, sizeof(control));
	if (packet->right_count > UNIX_RIGHTS_MAX)
		return error_new(EBADMSG, "%zu descriptors in one message", packet->right_count);
	if (more && more->has_pid) {
		const struct ucred credentials = {.pid = packet->sender, .uid = more->uid, .gid = more->gid};
		add_control(&message, SCM_CREDENTIALS, &credentials, sizeof(credentials));
	}
	if (packet->right_count > 0)
		add_control(&message, SCM_RIGHTS, packet->rights, packet->right_count * sizeof(int));
	if (message.msg_controllen == 0)
		message.msg_control = NULL;
	return send_whole(fd, &message, packet->entry->length);
}
