/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "memory/shared_send.h"
#include "image/pages.h"
#include "util/own.h"

struct shared_sender shared_sender_for(pid_t pid, const struct areas *areas)
{
	return (struct shared_sender){.pid = pid, .parts = shared_parts_of(areas)};
}

void shared_sender_free(struct shared_sender *sender)
{
	shared_parts_free(&sender->parts);
}

static struct error *send_part(const struct shared_sender *sender, const struct shared_part *part,
                               struct page_reader *reader)
{
	auto_fd int fd = -1;

	TRY(area_open_file(sender->pid, part->area, &fd));
	TRY(page_reader_begin(reader, part->area, fd));
	for (uint64_t at = part->start; at < part->end;) {
		uint64_t end = part->end;

		if (!shared_next_data(fd, part->area, &at, &end))
			break;
		TRY(page_reader_add(reader, at, (end - at) / PAGE_BYTES));
		at = end;
	}
	return page_reader_flush(reader);
}

struct error *shared_sender_send(struct shared_sender *sender, const struct area *area, struct page_reader *reader)
{
	const struct shared_parts *parts = &sender->parts;

	for (; sender->next < parts->count && parts->list[sender->next].area == area; sender->next++)
		TRY(send_part(sender, &parts->list[sender->next], reader));
	return NULL;
}
