/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The question that finds the pages of an area which have content of their own. */
#pragma once

#include "memory/areas.h"
#include "memory/page_scan.h"

/* Not those of zeros that reading made, nor the file's own. The caller narrows it, and may ask for more. */
static inline struct page_query page_query_for(const struct page_scan *scan, const struct area *area)
{
	bool is_file = area_content(area) == AREA_CONTENT_PRIVATE_FILE;

	return (struct page_query){
		.start = area->entry.start,
		.end = area->entry.end,
		.any = UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED,
		.returned = UAPI_PAGE_IS_PRESENT,
		.excluded = UAPI_PAGE_IS_PFNZERO | (is_file ? UAPI_PAGE_IS_FILE : 0) |
	                    (scan->knows_guards ? UAPI_PAGE_IS_GUARD : 0),
	};
}
