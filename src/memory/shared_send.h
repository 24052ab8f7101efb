/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Sends what shared memory holds, once or in rounds: only what has changed since it was sent, and the holes that were
 * punched into it.
 *
 * A store through a mapping is told by write-protection. What is done through a descriptor isn't, but it moves the file's
 * times (as does the fault of a store, so those of memory in use move all the time). So a page is known to be unchanged if
 * it is still protected, mapped once and in the same way as in the round before, and there is no descriptor
 * (memfd_create(2)) or the times are as they were. All others are compared with the hash of what was sent.
 */
#pragma once

#include "memory/pages.h"
#include "memory/shared.h"
#include "util/ranges.h"

struct shared_sender;

/* Never NULL. */
struct shared_sender *shared_sender_new(void);
void shared_sender_free(struct shared_sender *sender);
DEFINE_OWNED(struct shared_sender *, shared_sender_free)
#define auto_shared_sender AUTO(shared_sender_free)

/* Pages of a process that are still protected. */
struct unwritten {
	pid_t pid;
	const struct ranges *ranges; /* borrowed */
};

/*
 * Hands to the sink, with its shared_id set, what differs from what this sender has sent before: put() for pages, drop()
 * for those that have become zeros or holes, keep() for the others. unwritten is an array that ends with pid 0; NULL: none is
 * known to be. With is_frozen all objects have to be there; while the program runs one may have gone since they were
 * listed.
 */
MUST_USE struct error *shared_sender_send(struct shared_sender *sender, const struct shared_objects *objects,
                                          const struct unwritten *unwritten, bool is_frozen, struct page_sink *sink);
