/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Reads saved pages ahead, in a thread of its own, so that reading and what is done with the pages take no longer than the
 * slower of the two.
 */
#pragma once

#include "image/pages.h"

enum { PAGES_AHEAD_BYTES = 128 * 1024 };

struct pages_ahead;

/* All that reader has, from its next run on. reader is borrowed, and the thread's, until free. */
MUST_USE struct error *pages_ahead_start(struct pages_reader *reader, struct pages_ahead **ret_ahead);
void pages_ahead_free(struct pages_ahead *ahead);
DEFINE_OWNED(struct pages_ahead *, pages_ahead_free)
#define auto_pages_ahead AUTO(pages_ahead_free)

/* Neighbouring pages, PAGES_AHEAD_BYTES at most. */
struct pages_piece {
	uint64_t address;
	const void *bytes; /* borrowed until the next call */
	size_t page_count; /* 0: there are no more */
};
MUST_USE struct error *pages_ahead_next(struct pages_ahead *ahead, struct pages_piece *ret_piece);
