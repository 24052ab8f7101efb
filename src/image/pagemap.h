/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The file that says which pages are saved and where their bytes are: pagemap-PID.img, pagemap-shmem-ID.img.
 *
 * A directory that holds only what changed since its parent refers to the parent's pagemap, and so on. Each is read
 * by itself, and then, from the oldest on, resolved: so nothing recurses, however long the chain is.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "util/error.h"

enum {
	PAGEMAP_NAME_MAX = 48,
	PAGEMAP_IN_PARENT = 0x1, /* flags of a pagemap_entry */
	PAGEMAP_LAZY = 0x2,
	PAGEMAP_PRESENT = 0x4,
};

static const uint32_t pagemap_magics[2] = {0x54564319, 0x56084025};

/* Of all pagemaps of a chain together. */
static const size_t pagemap_runs_max = (size_t)16 << 20;

/* The directory that has the bytes is not this one, but its parent or one of the parent's. */
static const uint32_t pagemap_in_parent = UINT32_MAX;

/* Neighbouring pages whose bytes follow one another in one file. */
struct pagemap_run {
	uint64_t address;
	uint64_t page_count;
	uint64_t offset;
	uint32_t depth; /* of the directory that has the bytes; pagemap_in_parent until it is resolved */
};

/* Runs in ascending order of addresses, without overlaps. */
struct pagemap {
	uint32_t pages_id;   /* the N of pages-N.img */
	uint64_t page_count; /* that pages-N.img must hold */
	struct pagemap_run *runs;
	size_t count;
	size_t room;
};

/* Reads a pagemap; depth is what its runs get. */
MUST_USE struct error *pagemap_read(FILE *in, uint32_t depth, struct pagemap **ret_pagemap);

/* The first run whose bytes are in the parent; NULL: there is none. */
const struct pagemap_run *pagemap_first_in_parent(const struct pagemap *pagemap);

/* The same pages as in child, and where their bytes are. parent is resolved already. */
MUST_USE struct error *pagemap_resolve(const struct pagemap *child, const struct pagemap *parent,
                                       struct pagemap **ret_resolved);

void pagemap_free(struct pagemap *pagemap);
DEFINE_OWNED(struct pagemap *, pagemap_free)
#define auto_pagemap AUTO(pagemap_free)
