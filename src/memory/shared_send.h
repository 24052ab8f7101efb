/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Sends the content of shared memory, each part once, through a page reader that goes through the areas in order. */
#pragma once

#include "memory/page_reader.h"
#include "memory/shared.h"

struct shared_sender {
	pid_t pid;
	struct shared_parts parts;
	size_t next;
};

struct shared_sender shared_sender_for(pid_t pid, const struct areas *areas);
void shared_sender_free(struct shared_sender *sender); /* what it points to */
#define auto_shared_sender __attribute__((cleanup(shared_sender_free)))

/* The parts of one area; to be called for the areas in ascending order. */
MUST_USE struct error *shared_sender_send(struct shared_sender *sender, const struct area *area,
                                          struct page_reader *reader);
