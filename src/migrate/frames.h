/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What the two sides of a migration say to each other: frames of a type and a bounded number of bytes.
 *
 *     source                                       destination
 *     HELLO                                        ANSWER
 *     CLOCKS                what the program sees
 *     NEEDS                                        ANSWER      all that is lacking here
 *     IMAGE…, BEGIN         what there will be     ANSWER      checked, task and areas made
 *     IMAGE…, GONE, REMAP   areas of now
 *     PAGES…, DROP…, ROUND                         ANSWER      once for each round
 *     IMAGE…, COMPLETE      the rest, frozen       ANSWER      ready
 *     GO                                           ANSWER      it runs
 *     DONE                  nobody will ask again
 *     SETTLE                instead of HELLO       ANSWER      what became of a migration
 */
#pragma once

#include <stdint.h>

#include "godwit-migrate.pb-c.h"
#include "image/store.h"
#include "migrate/channel.h"
#include "util/ranges.h"

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_ANSWER,
	FRAME_IMAGE,
	FRAME_BEGIN,
	FRAME_GONE,
	FRAME_REMAP,
	FRAME_PAGES,
	FRAME_DROP,
	FRAME_ROUND,
	FRAME_COMPLETE,
	FRAME_GO,
	FRAME_DONE,
	FRAME_SETTLE,
	FRAME_CLOCKS,
	FRAME_NEEDS,
};

/* A frame that was received. Bytes are owned by the frame's struct and used again for the next one. */
struct frame {
	enum frame_type type;
	uint8_t *bytes; /* owned */
	size_t size_bytes;
	size_t room;
};
void frame_free(struct frame *frame); /* what it points to */
#define auto_frame __attribute__((cleanup(frame_free)))

MUST_USE struct error *frame_receive(struct channel *channel, int timeout_ms, struct frame *frame);
MUST_USE struct error *frame_send(struct channel *channel, enum frame_type type, const void *bytes, size_t size_bytes);

/* Messages as frames. */
MUST_USE struct error *frame_send_message(struct channel *channel, enum frame_type type,
                                          const ProtobufCMessage *message);

/* An ANSWER: NULL error is "yes". Consumes nothing. */
MUST_USE struct error *frame_send_answer(struct channel *channel, const struct error *error, const char *text);

/* Receives an ANSWER. A "no" is an error that says what the other side said. ret_text may be NULL; the caller frees. */
MUST_USE struct error *frame_receive_answer(struct channel *channel, int timeout_ms, char **ret_text);

/* The ANSWER to GO: the program runs there, as this process of that host. */
MUST_USE struct error *frame_send_runs(struct channel *channel, pid_t pid, const char *text);
MUST_USE struct error *frame_receive_runs(struct channel *channel, int timeout_ms, pid_t *ret_pid);

/* Why the other side has ended the connection, if it has said so: for an error of ours that came from that. Waits for
 * nothing. Consumes error. */
MUST_USE struct error *frame_reason(struct channel *channel, struct error *error);

/* All images of a store. */
MUST_USE struct error *frame_send_store(struct channel *channel, const struct image_store *store);
/* Puts an IMAGE into a store. */
MUST_USE struct error *frame_take_image(const struct frame *frame, struct image_store *store);

/* Pages of a process, or of shared memory: see page_sink. */
struct page_frame {
	pid_t pid; /* of whose memory they are, as it sees itself; 0: of shared memory */
	uint64_t shared_id;
	uint64_t address;
	size_t page_count;
	const void *bytes; /* borrowed; of PAGES */
};

/* PAGES or, without bytes, DROP. */
MUST_USE struct error *frame_send_pages(struct channel *channel, const struct page_frame *pages);
MUST_USE struct error *frame_take_pages(const struct frame *frame, struct page_frame *ret_pages);
MUST_USE struct error *frame_take_drop(const struct frame *frame, struct page_frame *ret_pages);

/* Ranges of the memory of a process, by the number that it has for itself: for GONE. */
MUST_USE struct error *frame_send_ranges(struct channel *channel, enum frame_type type, pid_t pid,
                                         const struct ranges *ranges);
MUST_USE struct error *frame_take_ranges(const struct frame *frame, pid_t *ret_pid, struct ranges *ret_ranges);

/* Such a number alone: for REMAP. */
MUST_USE struct error *frame_send_pid(struct channel *channel, enum frame_type type, pid_t pid);
MUST_USE struct error *frame_take_pid(const struct frame *frame, pid_t *ret_pid);
