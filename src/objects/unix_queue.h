/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What waits in a UNIX socket to be read: unix(7). sk-queues.img, and packets in sockets.godwit.
 *
 * Looking takes nothing out, but needs the socket's peek offset (SO_PEEK_OFF of socket(7)), which is put back: so the
 * socket has to be held (file_ops.hold). A packet of the image is what one read gives at most: of a stream, what stands
 * before descriptors or other credentials begin.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/objects.h"
#include "sk-packet.pb-c.h"

/* How many packets are saved of one socket at most: more than any queue holds. */
enum { UNIX_PACKETS_MAX = 1 << 16, UNIX_RIGHTS_MAX = 253 /* SCM_MAX_FD of Linux: descriptors in one */ };

/* A socket while its queue is looked at. */
struct unix_queue {
	const struct open_file *file; /* borrowed */
	int fd;                       /* borrowed: a copy of it */
	int type;                     /* SOCK_STREAM … */
	bool passes_credentials;      /* SO_PASSCRED is set: so senders' credentials can be seen */
};

/* The socket that has a name, or NULL: for the senders of datagrams. */
typedef const struct open_file *unix_find_name(const struct open_files *files, const void *name, size_t size_bytes);

/* Bytes or packets wait. */
bool unix_queue_is_empty(const struct unix_queue *queue);

/* Copies of all descriptors that wait. */
MUST_USE struct error *unix_queue_in_flight(const struct unix_queue *queue, int **ret_fds, size_t *ret_count);

/* Puts the queue into the store, and into extras what sk-queues.img has no field for. The caller frees that. */
MUST_USE struct error *unix_queue_save(const struct unix_queue *queue, unix_find_name *find, GodwitSocketEntry *extras,
                                       struct image_store *store);
void unix_queue_free_extras(GodwitSocketEntry *extras);

/* One packet that is sent again. All borrowed. */
struct unix_packet {
	const SkPacketEntry *entry;
	const uint8_t *bytes;
	const GodwitPacket *more; /* NULL: nothing */
	pid_t sender;             /* whose credentials more has, as this process sees it */
	const int *rights;        /* descriptors of this process, as many as the entry has */
	size_t right_count;
};

/* Sends it through fd, to address, or to the other end of fd where that is NULL. */
struct unix_name;
MUST_USE struct error *unix_packet_send(int fd, const struct unix_packet *packet, const struct unix_name *address);
