/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <endian.h>
#include <errno.h>
#include <stdbool.h>

#include "image/pagemap.h"
#include "image/pages.h"
#include "pagemap.pb-c.h"
#include "util/alloc.h"

/* An entry has 30 bytes at most; the rest is for fields that we don't know. */
enum { MESSAGE_BYTES_MAX = 256 };

static void head_free(PagemapHead *head)
{
	if (head)
		pagemap_head__free_unpacked(head, NULL);
}
DEFINE_OWNED(PagemapHead *, head_free)

static void entry_free(PagemapEntry *entry)
{
	if (entry)
		pagemap_entry__free_unpacked(entry, NULL);
}
DEFINE_OWNED(PagemapEntry *, entry_free)

void pagemap_free(struct pagemap *pagemap)
{
	if (!pagemap)
		return;
	free(pagemap->runs);
	free(pagemap);
}

static uint64_t run_end(const struct pagemap_run *run)
{
	return run->address + run->page_count * PAGE_BYTES;
}

/* run begins where last ends, in memory and in the file. */
static bool is_continued(const struct pagemap_run *last, const struct pagemap_run *run)
{
	return last->depth == run->depth && run_end(last) == run->address &&
	       (run->depth == pagemap_in_parent || last->offset + last->page_count * PAGE_BYTES == run->offset);
}

static struct error *append_run(struct pagemap *pagemap, const struct pagemap_run *run)
{
	if (pagemap->count > 0 && is_continued(&pagemap->runs[pagemap->count - 1], run)) {
		pagemap->runs[pagemap->count - 1].page_count += run->page_count;
		return NULL;
	}
	if (pagemap->count == pagemap_runs_max)
		return error_new(E2BIG, "no more than %zu runs of pages are read", pagemap_runs_max);
	if (pagemap->count == pagemap->room) {
		size_t room = pagemap->room ? pagemap->room * 2 : 64;
		struct pagemap_run *runs = reallocarray(pagemap->runs, room, sizeof(*runs));

		if (!runs)
			return error_new(ENOMEM, "%zu runs of pages", room);
		pagemap->runs = runs;
		pagemap->room = room;
	}
	pagemap->runs[pagemap->count++] = *run;
	return NULL;
}

/* ---- Reading ---- */

static struct error *read_magics(FILE *in)
{
	for (size_t i = 0; i < sizeof(pagemap_magics) / sizeof(pagemap_magics[0]); i++) {
		uint32_t word;

		if (fread(&word, sizeof(word), 1, in) != 1)
			return error_new(EBADMSG, "cut off in its magic");
		if (le32toh(word) != pagemap_magics[i])
			return error_new(EBADMSG, "begins with %#x where %#x is expected", le32toh(word),
			                 pagemap_magics[i]);
	}
	return NULL;
}

/* One message; *ret_is_end: there are no more. */
static struct error *read_message(FILE *in, uint8_t bytes[MESSAGE_BYTES_MAX], size_t *ret_size_bytes, bool *ret_is_end)
{
	uint32_t length;
	size_t got = fread(&length, 1, sizeof(length), in);

	*ret_is_end = got == 0 && !ferror(in);
	if (*ret_is_end)
		return NULL;
	if (ferror(in))
		return error_new(errno, "read");
	if (got < sizeof(length))
		return error_new(EBADMSG, "cut off in its length");
	length = le32toh(length);
	if (length > MESSAGE_BYTES_MAX)
		return error_new(E2BIG, "has %u bytes; no more than %d are read", length, MESSAGE_BYTES_MAX);
	if (fread(bytes, 1, length, in) != length)
		return error_new(EBADMSG, "has %u bytes, but they are not there", length);
	*ret_size_bytes = length;
	return NULL;
}

static struct error *read_head(FILE *in, struct pagemap *pagemap)
{
	uint8_t bytes[MESSAGE_BYTES_MAX];
	size_t size_bytes = 0;
	bool is_end = false;

	TRY(read_message(in, bytes, &size_bytes, &is_end));
	if (is_end)
		return error_new(EBADMSG, "is not there");
	AUTO(head_free) PagemapHead *head = pagemap_head__unpack(NULL, size_bytes, bytes);
	if (!head)
		return error_new(EBADMSG, "not a pagemap_head");
	pagemap->pages_id = head->pages_id;
	return NULL;
}

/* Where the bytes of an entry are, as its flags say; entries of old images have none. */
static struct error *entry_depth(const PagemapEntry *entry, uint32_t depth, uint32_t *ret_depth)
{
	const uint32_t known = PAGEMAP_IN_PARENT | PAGEMAP_LAZY | PAGEMAP_PRESENT;
	uint32_t flags = entry->in_parent ? PAGEMAP_IN_PARENT : PAGEMAP_PRESENT;

	if (entry->has_flags)
		flags = entry->flags;
	if (flags & ~known)
		return error_new(EOPNOTSUPP, "has unknown flags %#x", flags);
	if (flags == PAGEMAP_LAZY)
		return error_new(ENODATA, "pages at %#llx were left with a page server (lazy pages)",
		                 (unsigned long long)entry->vaddr);

	bool is_in_parent = flags & PAGEMAP_IN_PARENT;
	bool is_present = flags & PAGEMAP_PRESENT;
	if (is_in_parent == is_present)
		return error_new(EBADMSG, "flags %#x say nothing about where pages are", flags);
	*ret_depth = is_in_parent ? pagemap_in_parent : depth;
	return NULL;
}

static struct error *entry_to_run(const PagemapEntry *entry, const struct pagemap *pagemap, uint32_t depth,
                                  struct pagemap_run *ret_run)
{
	struct pagemap_run run = {
		.address = entry->vaddr,
		.page_count = entry->has_nr_pages ? entry->nr_pages : entry->compat_nr_pages,
		.offset = pagemap->page_count * PAGE_BYTES,
	};
	uint64_t last_end = pagemap->count > 0 ? run_end(&pagemap->runs[pagemap->count - 1]) : 0;

	TRY(entry_depth(entry, depth, &run.depth));
	if (run.address % PAGE_BYTES != 0)
		return error_new(EBADMSG, "address %#llx is not that of a page", (unsigned long long)run.address);
	if (run.page_count == 0 || run.page_count > (UINT64_MAX - run.address) / PAGE_BYTES)
		return error_new(EBADMSG, "%llu pages at %#llx", (unsigned long long)run.page_count,
		                 (unsigned long long)run.address);
	if (run.address < last_end)
		return error_new(EBADMSG, "pages at %#llx come after pages up to %#llx",
		                 (unsigned long long)run.address, (unsigned long long)last_end);
	*ret_run = run;
	return NULL;
}

static struct error *read_entry(FILE *in, struct pagemap *pagemap, uint32_t depth, bool *ret_is_end)
{
	uint8_t bytes[MESSAGE_BYTES_MAX];
	struct pagemap_run run = {0};
	size_t size_bytes = 0;

	TRY(read_message(in, bytes, &size_bytes, ret_is_end));
	if (*ret_is_end)
		return NULL;
	AUTO(entry_free) PagemapEntry *entry = pagemap_entry__unpack(NULL, size_bytes, bytes);
	if (!entry)
		return error_new(EBADMSG, "not a pagemap_entry");
	TRY(entry_to_run(entry, pagemap, depth, &run));
	if (run.depth != pagemap_in_parent)
		pagemap->page_count += run.page_count;
	return append_run(pagemap, &run);
}

struct error *pagemap_read(FILE *in, uint32_t depth, struct pagemap **ret_pagemap)
{
	auto_pagemap struct pagemap *pagemap = xalloc(sizeof(*pagemap));
	bool is_end = false;

	TRY(read_magics(in));
	TRY(read_head(in, pagemap), "pagemap_head");
	for (uint64_t n = 0; !is_end; n++)
		TRY(read_entry(in, pagemap, depth, &is_end), "pagemap_entry %llu", (unsigned long long)n);
	*ret_pagemap = take(pagemap);
	return NULL;
}

/* ---- Resolving ---- */

const struct pagemap_run *pagemap_first_in_parent(const struct pagemap *pagemap)
{
	for (size_t i = 0; i < pagemap->count; i++)
		if (pagemap->runs[i].depth == pagemap_in_parent)
			return &pagemap->runs[i];
	return NULL;
}

/* Appends what the parent's runs from *next on have of a run in the parent, which must be all of it. Moves *next. */
static struct error *append_from_parent(struct pagemap *resolved, const struct pagemap_run *run,
                                        const struct pagemap *parent, size_t *next)
{
	const uint64_t end = run_end(run);

	for (uint64_t address = run->address; address < end;) {
		while (*next < parent->count && run_end(&parent->runs[*next]) <= address)
			(*next)++;
		if (*next == parent->count || parent->runs[*next].address > address)
			return error_new(ENODATA, "the page at %#llx is not in the parent, as is said",
			                 (unsigned long long)address);

		const struct pagemap_run *from = &parent->runs[*next];
		uint64_t piece_end = run_end(from) < end ? run_end(from) : end;
		TRY(append_run(resolved, &(struct pagemap_run){
						 .address = address,
						 .page_count = (piece_end - address) / PAGE_BYTES,
						 .offset = from->offset + (address - from->address),
						 .depth = from->depth,
					 }));
		address = piece_end;
	}
	return NULL;
}

struct error *pagemap_resolve(const struct pagemap *child, const struct pagemap *parent, struct pagemap **ret_resolved)
{
	auto_pagemap struct pagemap *resolved = xalloc(sizeof(*resolved));
	size_t next = 0;

	resolved->pages_id = child->pages_id;
	resolved->page_count = child->page_count;
	for (size_t i = 0; i < child->count; i++) {
		const struct pagemap_run *run = &child->runs[i];

		if (run->depth == pagemap_in_parent)
			TRY(append_from_parent(resolved, run, parent, &next));
		else
			TRY(append_run(resolved, run));
	}
	*ret_resolved = take(resolved);
	return NULL;
}
