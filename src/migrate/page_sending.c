/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "migrate/page_sending.h"
#include "migrate/frames.h"
#include "migrate/signals.h"
#include "util/clock.h"

enum { BETWEEN_TELLINGS_NS = 100 * 1000 * 1000 };

static void tell(struct page_sending *sending)
{
	uint64_t now_ns = clock_now_ns();

	if (!sending->tell || now_ns - sending->told_ns < BETWEEN_TELLINGS_NS)
		return;
	sending->told_ns = now_ns;
	sending->tell(sending->context, sending);
}

static struct page_frame frame_of(const struct page_sending *sending, uint64_t address, size_t page_count,
                                  const void *bytes)
{
	return (struct page_frame){
		.pid = sending->sink.shared_id ? 0 : sending->pid,
		.shared_id = sending->sink.shared_id,
		.address = address,
		.page_count = page_count,
		.bytes = bytes,
	};
}

static struct error *put(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count)
{
	struct page_sending *sending = (struct page_sending *)sink;
	const struct page_frame pages = frame_of(sending, address, page_count, bytes);

	TRY(signals_check());
	sending->left_pages -= page_count < sending->left_pages ? page_count : sending->left_pages;
	tell(sending);
	return frame_send_pages(sending->channel, &pages);
}

static struct error *drop(struct page_sink *sink, uint64_t address, size_t page_count)
{
	const struct page_sending *sending = (const struct page_sending *)sink;
	const struct page_frame pages = frame_of(sending, address, page_count, NULL);

	return frame_send_pages(sending->channel, &pages);
}

struct page_sending page_sending_begin(struct channel *channel, pid_t own_pid)
{
	uint64_t now_ns = clock_now_ns();

	return (struct page_sending){
		.sink = {.put = put, .drop = drop},
		.channel = channel,
		.pid = own_pid,
		.start_ns = now_ns,
		.start_bytes = channel_written(channel),
		.told_ns = now_ns,
	};
}

uint64_t page_sending_bytes(const struct page_sending *sending)
{
	return channel_written(sending->channel) - sending->start_bytes;
}

uint64_t page_sending_rate(const struct page_sending *sending)
{
	return page_sending_bytes(sending) * 1000000000 / (clock_now_ns() - sending->start_ns + 1);
}
