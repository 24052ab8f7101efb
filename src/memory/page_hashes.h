/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What pages held when they were last sent, as hashes of 128 bits: 4 MB for each GB. */
#pragma once

#include <stdbool.h>

#include "util/own.h"
#include "util/ranges.h"

struct page_hashes;

/* Never NULL. */
struct page_hashes *page_hashes_new(void);
void page_hashes_free(struct page_hashes *hashes);
DEFINE_OWNED(struct page_hashes *, page_hashes_free)
#define auto_page_hashes AUTO(page_hashes_free)

/* Notes what a page holds. Returns whether that is new: not what was noted before, or nothing was. */
bool page_hashes_note(struct page_hashes *hashes, uint64_t address, const void *bytes);

/* Is anything noted of this page? */
bool page_hashes_knows(const struct page_hashes *hashes, uint64_t address);

/* These pages are not there any more. */
void page_hashes_forget(struct page_hashes *hashes, const struct ranges *gone);
void page_hashes_forget_all(struct page_hashes *hashes);
