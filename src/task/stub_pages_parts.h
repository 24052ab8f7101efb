/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What making the stub's pages and running batches in them share. For stub_pages.c and stub_batches.c only. */
#pragma once

#include <linux/futex.h>

#include "stub/stub.h"
#include "task/stub_pages.h"

enum { PAGE_BYTES = 4096 };

/*
 * Our side of the data pages begins with a private page for the robust list's entry, which is thus at the same
 * distance from "owner" for every process: set_robust_list(2) knows only one futex_offset. A thread has one list for all
 * processes that it holds; its head is in the page of one of them.
 */
struct robust_page {
	struct robust_list entry; /* first: a list leads to the pages */
	struct robust_list_head head;
	struct robust_list_head *saved_head; /* of the head: what this thread had before any of ours */
	size_t saved_bytes;
	size_t count; /* of the head: entries */
	uint8_t unused[PAGE_BYTES - sizeof(struct robust_list) - sizeof(struct robust_list_head) - 3 * sizeof(size_t)];
};
_Static_assert(sizeof(struct robust_page) == PAGE_BYTES, "a page");

struct stub_pages {
	uint64_t code_address, session_address; /* in the task */
	size_t code_bytes, data_bytes;
	size_t room;                  /* places */
	bool is_roomy;                /* each thread has all of the control pages, not only these two: */
	size_t caller;                /* of process_caller(), and the leader */
	uint8_t *code;                /* here; owned */
	struct robust_page *reserved; /* here; owned: the private page, then the data pages */
	struct stub_session *session; /* in reserved */
	struct stub_place *places;    /* in reserved; one for each thread */
	bool is_owned;                /* its entry is on this thread's list */
};

/* Has the thread little room for its batches? */
bool stub_pages_has_small(const struct stub_pages *stub, size_t thread);

/* Where a thread's control pages are: from the session on, and here. */
size_t stub_pages_control_offset(const struct stub_pages *stub, size_t thread);
struct stub_control *stub_pages_control(const struct stub_pages *stub, size_t thread);

/* All who wait for a word of the pages. */
void stub_pages_wake(uint32_t *word);
