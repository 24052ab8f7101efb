/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A pagemap-PID.img, and the same once more as its own parent's. */
#include <stdlib.h>

#include "fuzz.h"
#include "image/pagemap.h"
#include "util/own.h"

static struct pagemap *parse(const uint8_t *bytes, size_t size_bytes, uint32_t depth)
{
	struct pagemap *pagemap = NULL;
	auto_file FILE *in = size_bytes ? fmemopen((void *)(uintptr_t)bytes, size_bytes, "r") : NULL;

	if (in)
		error_free(pagemap_read(in, depth, &pagemap));
	return pagemap;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	size_t half = size_bytes / 2;
	auto_pagemap struct pagemap *whole = parse(bytes, size_bytes, 0);
	auto_pagemap struct pagemap *child = parse(bytes, half, 0);
	auto_pagemap struct pagemap *parent = parse(bytes + half, size_bytes - half, 1);
	auto_pagemap struct pagemap *resolved = NULL;

	if (whole)
		(void)pagemap_first_in_parent(whole);
	if (child && parent && !pagemap_first_in_parent(parent))
		error_free(pagemap_resolve(child, parent, &resolved));
	return 0;
}
