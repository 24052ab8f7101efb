/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared memory in rounds: only what has changed since it was sent, and the holes that were punched into it.
 *
 * A store through the one mapping is told by write-protection. What is done through a descriptor isn't, but it moves the
 * file's times (as does the fault of a store, so those of memory in use move all the time). So a page is known to be
 * unchanged if it is still protected and there is no descriptor (memfd_create(2)), or the times are as they were. All
 * others are compared with the hash of what was sent.
 */
#pragma once

#include "memory/page_hashes.h"
#include "memory/page_reader.h"
#include "util/ranges.h"

struct shared_rounds;

/* hashes are borrowed until free. Never NULL. */
struct shared_rounds *shared_rounds_new(struct page_hashes *hashes);
void shared_rounds_free(struct shared_rounds *shared);
DEFINE_OWNED(struct shared_rounds *, shared_rounds_free)

/* A round begins. areas are borrowed until its end. */
void shared_rounds_begin(struct shared_rounds *shared, pid_t pid, const struct areas *areas);

/*
 * Sends one area, in ascending order, through a reader whose judge compares hashes. unwritten: pages that are still
 * protected.
 */
MUST_USE struct error *shared_rounds_send(struct shared_rounds *shared, const struct area *area,
                                          const struct ranges *unwritten, struct page_reader *reader);

/* The judge has put a page. */
void shared_rounds_note(struct shared_rounds *shared, uint64_t address);

void shared_rounds_forget(struct shared_rounds *shared, const struct ranges *gone);
