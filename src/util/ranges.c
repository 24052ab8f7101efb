/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <stdlib.h>

#include "util/ranges.h"

void ranges_free(struct ranges *ranges)
{
	free(ranges->list);
	*ranges = (struct ranges){0};
}

static struct range *make_room(struct ranges *ranges)
{
	if (ranges->count == ranges->room) {
		ranges->room = ranges->room ? ranges->room * 2 : 64;
		ranges->list = reallocarray(ranges->list, ranges->room, sizeof(*ranges->list));
		if (!ranges->list)
			abort();
	}
	return &ranges->list[ranges->count];
}

void ranges_append(struct ranges *ranges, uint64_t start, uint64_t end)
{
	struct range *last = ranges->count ? &ranges->list[ranges->count - 1] : NULL;

	if (start >= end)
		return;
	assert(!last || start >= last->start);
	if (last && start <= last->end) {
		if (end > last->end)
			last->end = end;
		return;
	}
	*make_room(ranges) = (struct range){start, end};
	ranges->count++;
}

void ranges_unite(struct ranges *ranges, const struct ranges *other)
{
	struct ranges both = {0};
	size_t i = 0;
	size_t j = 0;

	while (i < ranges->count || j < other->count) {
		const struct range *next;

		if (j == other->count || (i < ranges->count && ranges->list[i].start <= other->list[j].start))
			next = &ranges->list[i++];
		else
			next = &other->list[j++];
		ranges_append(&both, next->start, next->end);
	}
	ranges_free(ranges);
	*ranges = both;
}

struct ranges ranges_without(const struct ranges *ranges, const struct ranges *other)
{
	struct ranges rest = {0};
	size_t j = 0;

	for (size_t i = 0; i < ranges->count; i++) {
		uint64_t start = ranges->list[i].start;
		uint64_t end = ranges->list[i].end;

		while (j < other->count && other->list[j].end <= start)
			j++;
		/* One of other may reach into the next range, too: j stays on it. */
		for (size_t k = j; k < other->count && other->list[k].start < end; k++) {
			ranges_append(&rest, start, other->list[k].start);
			start = other->list[k].end;
		}
		ranges_append(&rest, start, end);
	}
	return rest;
}

uint64_t ranges_bytes(const struct ranges *ranges)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ranges->count; i++)
		bytes += ranges->list[i].end - ranges->list[i].start;
	return bytes;
}
