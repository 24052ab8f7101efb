/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "image/pages.h"
#include "memory/page_hashes.h"
#include "memory/page_reader.h"
#include "memory/shared_send.h"
#include "util/alloc.h"
#include "util/number_map.h"
#include "util/own.h"

/* Times of files advance with the kernel's tick, 10 ms at most: a change right behind a look may not move them. */
static const int64_t ticks_ns = 20000000;

/* An object as the round before has seen it. */
struct seen {
	struct page_hashes *hashes; /* owned */
	struct ranges sent;         /* what the other end has */
	struct timespec modified, changed;
	bool are_times_recent; /* they may stay the same although the file changes */
	bool has_moved;        /* between the last two looks */
	XXH64_hash_t mappings;
	bool is_mapped_anew; /* otherwise than at the look before */
};

struct shared_sender {
	struct number_map *indexes; /* owned: id, 0 */
	struct seen *list;          /* owned */
	size_t count;
};

struct shared_sender *shared_sender_new(void)
{
	struct shared_sender *sender = xalloc(sizeof(*sender));

	sender->indexes = number_map_new();
	return sender;
}

void shared_sender_free(struct shared_sender *sender)
{
	if (!sender)
		return;
	for (size_t i = 0; i < sender->count; i++) {
		page_hashes_free(sender->list[i].hashes);
		ranges_free(&sender->list[i].sent);
	}
	free(sender->list);
	number_map_free(sender->indexes);
	free(sender);
}

static struct seen *seen_of(struct shared_sender *sender, uint64_t id)
{
	uint64_t index;

	if (number_map_find(sender->indexes, id, 0, &index))
		return &sender->list[index];
	number_map_add(sender->indexes, id, 0, sender->count);
	sender->list = xrealloc(sender->list, (sender->count + 1) * sizeof(*sender->list));
	sender->list[sender->count] = (struct seen){.hashes = page_hashes_new()};
	return &sender->list[sender->count++];
}

/* ---- What is known without reading ---- */

static bool is_same(const struct timespec *time, const struct timespec *other)
{
	return time->tv_sec == other->tv_sec && time->tv_nsec == other->tv_nsec;
}

static bool is_recent(const struct timespec *changed)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - changed->tv_sec) * INT64_C(1000000000) + now.tv_nsec - changed->tv_nsec < ticks_ns;
}

/* Before any of its pages are read. */
static struct error *look(struct seen *seen, const struct shared_object *object, int fd)
{
	XXH64_hash_t mappings = XXH3_64bits(object->mappings, object->mapping_count * sizeof(*object->mappings));
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat");
	seen->has_moved = seen->are_times_recent || !is_same(&seen->modified, &stat.st_mtim) ||
	                  !is_same(&seen->changed, &stat.st_ctim);
	seen->modified = stat.st_mtim;
	seen->changed = stat.st_ctim;
	seen->are_times_recent = is_recent(&stat.st_ctim) || is_recent(&stat.st_mtim);
	seen->is_mapped_anew = mappings != seen->mappings;
	seen->mappings = mappings;
	return NULL;
}

/* Another mapping of the same pages is a way to write them that a first one doesn't see. */
static bool is_mapped_twice(const struct shared_object *object)
{
	for (size_t i = 0; i < object->mapping_count; i++)
		for (size_t j = 0; j < i; j++) {
			const struct shared_mapping *a = &object->mappings[i];
			const struct shared_mapping *b = &object->mappings[j];

			if (a->offset < b->offset + (b->end - b->start) && b->offset < a->offset + (a->end - a->start))
				return true;
		}
	return false;
}

/* Adds the offsets of the pages of a mapping that are in ranges. */
static void add_offsets(const struct shared_mapping *mapping, const struct ranges *ranges, struct ranges *offsets)
{
	struct ranges added = {0};

	for (size_t i = 0; i < ranges->count; i++) {
		const struct range *range = &ranges->list[i];
		uint64_t start = range->start > mapping->start ? range->start : mapping->start;
		uint64_t end = range->end < mapping->end ? range->end : mapping->end;

		if (start < end)
			ranges_append(&added, start - mapping->start + mapping->offset,
			              end - mapping->start + mapping->offset);
	}
	ranges_unite(offsets, &added);
	ranges_free(&added);
}

static const struct ranges *unwritten_of(const struct unwritten *unwritten, uint64_t pid)
{
	for (; unwritten && unwritten->pid; unwritten++)
		if ((uint64_t)unwritten->pid == pid)
			return unwritten->ranges;
	return NULL;
}

/* Offsets of pages that are as they were when they were sent. */
static struct ranges unchanged(const struct seen *seen, const struct shared_object *object,
                               const struct unwritten *unwritten)
{
	struct ranges offsets = {0};

	if (seen->is_mapped_anew || is_mapped_twice(object) || (object->is_memfd && seen->has_moved))
		return offsets;
	for (size_t i = 0; i < object->mapping_count; i++) {
		const struct ranges *ranges = unwritten_of(unwritten, object->mappings[i].pid);

		if (ranges)
			add_offsets(&object->mappings[i], ranges, &offsets);
	}
	/* It can't have been changed at all. */
	if (object->mapping_count == 0)
		ranges_append(&offsets, 0, UINT64_MAX);
	return offsets;
}

/* ---- Judging ---- */

struct comparison {
	struct page_judge judge;
	struct seen *seen;
	struct ranges put, dropped;
	bool has_failed;
};

static enum page_verdict judge_page(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero)
{
	struct comparison *comparison = (struct comparison *)(void *)judge;
	struct page_hashes *hashes = comparison->seen->hashes;

	if (!bytes)
		comparison->has_failed = true;
	if (!bytes || (is_zero && !page_hashes_knows(hashes, address)))
		return PAGE_SKIP;
	if (is_zero) {
		ranges_append(&comparison->dropped, address, address + PAGE_BYTES);
		return PAGE_DROP;
	}
	if (!page_hashes_note(hashes, address, bytes))
		return PAGE_KEEP;
	ranges_append(&comparison->put, address, address + PAGE_BYTES);
	return PAGE_PUT;
}

/* ---- Sending ---- */

/* In whole pages: lseek(2). */
static struct ranges data_of(int fd)
{
	const uint64_t mask = PAGE_BYTES - 1;
	struct ranges data = {0};

	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		off_t hole = lseek(fd, at, SEEK_HOLE);

		if (hole < 0)
			break;
		ranges_append(&data, (uint64_t)at & ~mask, ((uint64_t)hole + mask) & ~mask);
		at = hole;
	}
	return data;
}

static struct error *read_ranges(int fd, const struct ranges *ranges, struct page_reader *reader)
{
	TRY(page_reader_begin_file(reader, fd));
	for (size_t i = 0; i < ranges->count; i++)
		TRY(page_reader_add(reader, ranges->list[i].start,
		                    (ranges->list[i].end - ranges->list[i].start) / PAGE_BYTES));
	return page_reader_flush(reader);
}

static struct error *drop_ranges(const struct ranges *ranges, struct page_sink *sink)
{
	for (size_t i = 0; i < ranges->count; i++)
		TRY(sink->drop(sink, ranges->list[i].start,
		               (ranges->list[i].end - ranges->list[i].start) / PAGE_BYTES));
	return NULL;
}

/* The other end has it by now. */
static void note(struct seen *seen, const struct ranges *gone, const struct ranges *put)
{
	struct ranges left = ranges_without(&seen->sent, gone);

	ranges_free(&seen->sent);
	seen->sent = left;
	ranges_unite(&seen->sent, put);
	page_hashes_forget(seen->hashes, gone);
}

static struct error *send_changed(struct seen *seen, int fd, const struct ranges *same, struct page_sink *sink)
{
	__attribute__((cleanup(page_reader_free))) struct page_reader reader;
	struct comparison comparison = {.judge.judge = judge_page, .seen = seen};
	auto_ranges struct ranges data = data_of(fd);
	auto_ranges struct ranges doubtful = ranges_without(&data, same);
	auto_ranges struct ranges gone = ranges_without(&seen->sent, &data);

	page_reader_init(&reader, getpid(), -1, sink, &comparison.judge);
	struct error *error = read_ranges(fd, &doubtful, &reader);
	if (!error && comparison.has_failed)
		error = error_new(EIO, "it can't be read");
	if (!error)
		error = drop_ranges(&gone, sink);
	ranges_unite(&gone, &comparison.dropped);
	if (!error)
		note(seen, &gone, &comparison.put);
	ranges_free(&comparison.put);
	ranges_free(&comparison.dropped);
	return error;
}

static struct error *send_object(struct seen *seen, const struct shared_object *object, int fd,
                                 const struct unwritten *unwritten, struct page_sink *sink)
{
	TRY(look(seen, object, fd));
	/* Those who want to be told of what stays get it from reading, all in the order of addresses. */
	auto_ranges struct ranges same = sink->keep ? (struct ranges){0} : unchanged(seen, object, unwritten);
	return send_changed(seen, fd, &same, sink);
}

struct error *shared_sender_send(struct shared_sender *sender, const struct shared_objects *objects,
                                 const struct unwritten *unwritten, bool is_frozen, struct page_sink *sink)
{
	for (size_t i = 0; i < objects->count; i++) {
		const struct shared_object *object = &objects->list[i];
		int opened = shared_object_open(object);

		if (opened < 0 && !is_frozen)
			continue;
		if (opened < 0)
			return error_hint(error_new(-opened, "open(%s)", object->source),
			                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this");
		auto_fd int fd = opened;
		if (sink->begin_shared)
			TRY(sink->begin_shared(sink, object->id));
		sink->shared_id = object->id;
		struct error *error = send_object(seen_of(sender, object->id), object, fd, unwritten, sink);
		sink->shared_id = 0;
		TRY(error, "shared memory %s", object->source);
	}
	return NULL;
}
