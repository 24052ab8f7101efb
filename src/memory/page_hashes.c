/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "image/pages.h"
#include "memory/page_hashes.h"
#include "util/alloc.h"
#include "util/number_map.h"

/* Hashes of neighbours lie together: those of 2 MiB are one block. */
enum { BLOCK_PAGES = 512 };
static const uint64_t block_bytes = UINT64_C(512) * PAGE_BYTES;

struct block {
	uint64_t number;
	bool is_known[BLOCK_PAGES];
	XXH128_hash_t hashes[BLOCK_PAGES];
};

struct page_hashes {
	struct number_map *blocks; /* owned, and what its values point to */
	struct block *last;        /* the one that was used last, for they come in order */
};

static struct block *block_of(uint64_t value)
{
	return (struct block *)(uintptr_t)value;
}

struct page_hashes *page_hashes_new(void)
{
	struct page_hashes *hashes = xalloc(sizeof(*hashes));

	hashes->blocks = number_map_new();
	return hashes;
}

void page_hashes_forget_all(struct page_hashes *hashes)
{
	uint64_t value;

	while (number_map_pop(hashes->blocks, &value))
		free(block_of(value));
	hashes->last = NULL;
}

void page_hashes_free(struct page_hashes *hashes)
{
	if (!hashes)
		return;
	page_hashes_forget_all(hashes);
	number_map_free(hashes->blocks);
	free(hashes);
}

/* NULL: there is none. */
static struct block *find_block(const struct page_hashes *hashes, uint64_t number)
{
	uint64_t value;

	if (hashes->last && hashes->last->number == number)
		return hashes->last;
	return number_map_find(hashes->blocks, number, 0, &value) ? block_of(value) : NULL;
}

static struct block *make_block(struct page_hashes *hashes, uint64_t number)
{
	struct block *block = find_block(hashes, number);

	if (!block) {
		block = xalloc(sizeof(*block));
		block->number = number;
		number_map_add(hashes->blocks, number, 0, (uintptr_t)block);
	}
	hashes->last = block;
	return block;
}

bool page_hashes_note(struct page_hashes *hashes, uint64_t address, const void *bytes)
{
	struct block *block = make_block(hashes, address / block_bytes);
	size_t i = address % block_bytes / PAGE_BYTES;
	XXH128_hash_t hash = XXH3_128bits(bytes, PAGE_BYTES);

	if (block->is_known[i] && XXH128_isEqual(block->hashes[i], hash))
		return false;
	block->is_known[i] = true;
	block->hashes[i] = hash;
	return true;
}

bool page_hashes_knows(const struct page_hashes *hashes, uint64_t address)
{
	const struct block *block = find_block(hashes, address / block_bytes);

	return block && block->is_known[address % block_bytes / PAGE_BYTES];
}

void page_hashes_forget(struct page_hashes *hashes, const struct ranges *gone)
{
	for (size_t i = 0; i < gone->count; i++) {
		uint64_t end = gone->list[i].end;

		for (uint64_t at = gone->list[i].start; at < end;) {
			uint64_t block_end = (at / block_bytes + 1) * block_bytes;
			uint64_t limit = block_end < end ? block_end : end;
			struct block *block = find_block(hashes, at / block_bytes);

			if (block)
				memset(&block->is_known[at % block_bytes / PAGE_BYTES], 0, (limit - at) / PAGE_BYTES);
			at = limit;
		}
	}
}
