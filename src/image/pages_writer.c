/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>

#include "image/output.h"
#include "image/pagemap.h"
#include "image/pages.h"
#include "pagemap.pb-c.h"
#include "util/alloc.h"

enum { GATHERED_BYTES = 256 << 10 };

struct pages_writer {
	struct output *pagemap;
	struct output *pages;
	/* The run that the next pages may belong to; 0 pages: there is none. */
	uint64_t run_address;
	uint64_t run_pages;
	uint32_t run_flags;
	uint64_t page_count;
	size_t run_count;
};

static struct error *put_message(struct output *output, const ProtobufCMessage *message)
{
	uint8_t bytes[128];
	size_t size_bytes = protobuf_c_message_get_packed_size(message);
	uint32_t length = htole32((uint32_t)size_bytes);

	assert(size_bytes <= sizeof(bytes)); /* a few numbers */
	protobuf_c_message_pack(message, bytes);
	TRY(output_put(output, &length, sizeof(length)));
	return output_put(output, bytes, size_bytes);
}

static struct error *put_head(struct output *pagemap, uint32_t pages_id)
{
	PagemapHead head = PAGEMAP_HEAD__INIT;

	for (size_t i = 0; i < sizeof(pagemap_magics) / sizeof(pagemap_magics[0]); i++) {
		uint32_t word = htole32(pagemap_magics[i]);

		TRY(output_put(pagemap, &word, sizeof(word)));
	}
	head.pages_id = pages_id;
	return put_message(pagemap, &head.base);
}

static struct error *writer_open(int dir_fd, const char *pagemap_name, uint32_t pages_id,
                                 struct pages_writer **ret_writer)
{
	auto_pages_writer struct pages_writer *writer = xalloc(sizeof(*writer));
	char pages_name[PAGEMAP_NAME_MAX];

	snprintf(pages_name, sizeof(pages_name), "pages-%" PRIu32 ".img", pages_id);
	TRY(output_open(dir_fd, pagemap_name, true, &writer->pagemap));
	TRY(output_open(dir_fd, pages_name, true, &writer->pages));
	output_gather(writer->pagemap, GATHERED_BYTES);
	output_gather(writer->pages, GATHERED_BYTES);
	TRY(put_head(writer->pagemap, pages_id));
	*ret_writer = take(writer);
	return NULL;
}

struct error *pages_writer_open(int dir_fd, pid_t pid, uint32_t pages_id, struct pages_writer **ret_writer)
{
	char name[PAGEMAP_NAME_MAX];

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	return writer_open(dir_fd, name, pages_id, ret_writer);
}

struct error *pages_writer_open_shared(int dir_fd, uint64_t shmid, uint32_t pages_id, struct pages_writer **ret_writer)
{
	char name[PAGEMAP_NAME_MAX];

	snprintf(name, sizeof(name), "pagemap-shmem-%" PRIu64 ".img", shmid);
	return writer_open(dir_fd, name, pages_id, ret_writer);
}

void pages_writer_gather(struct pages_writer *writer, size_t size_bytes)
{
	output_gather(writer->pages, size_bytes);
}

/* Writes the entry of the run that has ended. */
static struct error *end_run(struct pages_writer *writer)
{
	PagemapEntry entry = PAGEMAP_ENTRY__INIT;

	if (writer->run_pages == 0)
		return NULL;
	if (++writer->run_count > pagemap_runs_max)
		return error_new(E2BIG, "more than %zu runs of pages, more than can be read", pagemap_runs_max);
	entry.vaddr = writer->run_address;
	entry.has_flags = true;
	entry.flags = writer->run_flags;
	/* Both: which one is read depends on who reads. */
	entry.has_nr_pages = true;
	entry.nr_pages = writer->run_pages;
	entry.compat_nr_pages = (uint32_t)writer->run_pages;
	writer->run_pages = 0;
	return put_message(writer->pagemap, &entry.base);
}

static struct error *continue_run(struct pages_writer *writer, uint64_t address, size_t page_count, uint32_t flags)
{
	uint64_t end = writer->run_address + writer->run_pages * PAGE_BYTES;

	assert(address % PAGE_BYTES == 0 && address >= end);
	assert(page_count <= UINT32_MAX);
	if (flags != writer->run_flags || address != end || writer->run_pages + page_count > UINT32_MAX) {
		TRY(end_run(writer));
		writer->run_address = address;
		writer->run_flags = flags;
	}
	writer->run_pages += page_count;
	return NULL;
}

struct error *pages_writer_put(struct pages_writer *writer, uint64_t address, const void *bytes, size_t page_count)
{
	if (page_count == 0)
		return NULL;
	TRY(continue_run(writer, address, page_count, PAGEMAP_PRESENT));
	writer->page_count += page_count;
	return output_put(writer->pages, bytes, page_count * PAGE_BYTES);
}

struct error *pages_writer_put_in_parent(struct pages_writer *writer, uint64_t address, size_t page_count)
{
	return page_count == 0 ? NULL : continue_run(writer, address, page_count, PAGEMAP_IN_PARENT);
}

struct error *pages_writer_sync(struct pages_writer *writer)
{
	TRY(end_run(writer));
	TRY(output_finish(writer->pages));
	return output_finish(writer->pagemap);
}

void pages_writer_keep(struct pages_writer *writer)
{
	output_keep(writer->pages);
	output_keep(writer->pagemap);
}

struct error *pages_writer_finish(struct pages_writer *writer)
{
	TRY(pages_writer_sync(writer));
	pages_writer_keep(writer);
	return NULL;
}

void pages_writer_free(struct pages_writer *writer)
{
	if (!writer)
		return;
	output_free(writer->pagemap);
	output_free(writer->pages);
	free(writer);
}

uint64_t pages_writer_count(const struct pages_writer *writer)
{
	return writer->page_count;
}
