/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* TCP segments that say that the peer has closed its half, or all of it, sent to ourselves: no call can put a socket there. */
#pragma once

#include <stdint.h>

#include "util/error.h"

/*
 * Sends a FIN from the peer of a connection to it, with this sequence number, acknowledging what is before
 * acknowledged; window is as in the segment, not scaled. It goes as a loop_packet.
 */
MUST_USE struct error *tcp_segment_send_end(int fd, uint32_t sequence, uint32_t acknowledged, uint32_t window);

/* Sends a RST in the same way: the connection is no more. */
MUST_USE struct error *tcp_segment_send_reset(int fd, uint32_t sequence);
