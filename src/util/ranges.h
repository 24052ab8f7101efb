/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Sets of addresses, as ranges: ascending, none touching the next. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end;
};

/* Begin with {0}. */
struct ranges {
	struct range *list; /* owned */
	size_t count, room;
};

void ranges_free(struct ranges *ranges); /* what it points to; leaves it empty */
#define auto_ranges __attribute__((cleanup(ranges_free)))

/* Adds a range that begins where the last one does, or behind that. */
void ranges_append(struct ranges *ranges, uint64_t start, uint64_t end);

/* ranges becomes what is in it or in other, but not in both twice. */
void ranges_unite(struct ranges *ranges, const struct ranges *other);

/* What is in ranges and not in other. The caller frees it. */
struct ranges ranges_without(const struct ranges *ranges, const struct ranges *other);

/* The sum of all lengths. */
uint64_t ranges_bytes(const struct ranges *ranges);
