/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Pages as frames on the channel, and how far that is. A signal that asks us to stop ends it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memory/pages.h"
#include "migrate/channel.h"

struct page_sending {
	struct page_sink sink;
	struct channel *channel; /* borrowed */
	/* Somebody who is told now and then; NULL: nobody, the program stands still. */
	void (*tell)(void *context, const struct page_sending *sending);
	void *context;       /* borrowed */
	pid_t pid;           /* own_pid of whose pages come next */
	uint64_t left_pages; /* as expected */
	uint64_t start_ns, start_bytes, told_ns;
};

/* pid may be set again before pages of another process come. */
struct page_sending page_sending_begin(struct channel *channel, pid_t own_pid);

/* Since it began. */
uint64_t page_sending_bytes(const struct page_sending *sending);
uint64_t page_sending_rate(const struct page_sending *sending);
