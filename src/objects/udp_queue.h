/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Datagrams that wait in a UDP socket: datagrams-INODE.godwit. They are looked at without being taken out (SO_PEEK_OFF), and
 * sent to the new socket again, as if from their senders: loop_packet.h.
 *
 * Of what a datagram had besides, a program sees what it has asked for (IP_PKTINFO, IP_RECVTTL …). That comes along when it
 * is looked at, and is as it was then; only the interface is the loopback device. Where an error waits to be told, looking
 * would tell it to us: those datagrams are left alone.
 */
#pragma once

#include "image/store.h"
#include "util/error.h"

/* Is there anything to look at? */
bool udp_queue_is_waiting(int fd);

/* A datagram of no bytes is seen by one look only. */
MUST_USE struct error *udp_queue_save(int fd, uint64_t inode, struct image_store *store);

bool udp_queue_was_saved(uint64_t inode, const struct image_store *store);

/* To a socket that is bound to an address which is here by now. Locks the size of its receive buffer: SO_BUF_LOCK. */
MUST_USE struct error *udp_queue_resume(int fd, uint64_t inode, const struct image_store *store);
