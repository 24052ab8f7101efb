/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A list of areas while it grows. */
#pragma once

#include <stdlib.h>

#include "memory/areas.h"

struct area_list {
	struct areas *areas; /* borrowed */
	size_t room;
};

/* A new last area, to be written at once. Valid until the next call. */
static inline struct area *area_list_append(struct area_list *list)
{
	struct areas *areas = list->areas;

	if (areas->count == list->room) {
		list->room = list->room ? list->room * 2 : 64;
		areas->list = reallocarray(areas->list, list->room, sizeof(*areas->list));
		if (!areas->list)
			abort();
	}
	return &areas->list[areas->count++];
}
