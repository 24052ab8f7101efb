/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * For tests of rounds: a copy of a process's memory, made of what the rounds send, and what such a test does with it.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/pages.h"
#include "lib/tempdir.h"
#include "lib/unit.h"
#include "memory/areas.h"
#include "memory/shared_send.h"
#include "memory/subject.h"
#include "memory/tracker.h"
#include "util/number_map.h"

enum { PATH_BYTES = 128 };

struct copy {
	struct page_sink sink;
	struct number_map *pages; /* address and shared_id to malloc(3)ed bytes */
	struct shared_sender *shared;
	size_t put_pages;
};

static inline void *copy_bytes(uint64_t value)
{
	return (void *)(uintptr_t)value;
}

static inline void copy_remove_page(struct copy *copy, uint64_t address)
{
	uint64_t bytes;

	if (number_map_remove(copy->pages, address, copy->sink.shared_id, &bytes))
		free(copy_bytes(bytes));
}

static inline struct error *copy_put(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count)
{
	struct copy *copy = (struct copy *)(void *)sink;

	for (size_t i = 0; i < page_count; i++) {
		void *page = malloc(PAGE_BYTES);

		copy_remove_page(copy, address + i * PAGE_BYTES);
		memcpy(page, (const char *)bytes + i * PAGE_BYTES, PAGE_BYTES);
		number_map_add(copy->pages, address + i * PAGE_BYTES, sink->shared_id, (uintptr_t)page);
	}
	copy->put_pages += page_count;
	return NULL;
}

static inline struct error *copy_drop(struct page_sink *sink, uint64_t address, size_t page_count)
{
	for (size_t i = 0; i < page_count; i++)
		copy_remove_page((struct copy *)(void *)sink, address + i * PAGE_BYTES);
	return NULL;
}

static inline struct copy copy_new(void)
{
	return (struct copy){
		.sink = {.put = copy_put, .drop = copy_drop},
		.pages = number_map_new(),
		.shared = shared_sender_new(),
	};
}

static inline void copy_free(struct copy *copy)
{
	uint64_t bytes;

	while (number_map_pop(copy->pages, &bytes))
		free(copy_bytes(bytes));
	number_map_free(copy->pages);
	shared_sender_free(copy->shared);
}
#define auto_copy __attribute__((cleanup(copy_free)))

static inline void copy_forget(struct copy *copy, const struct ranges *gone)
{
	for (size_t i = 0; i < gone->count; i++)
		error_free(copy_drop(&copy->sink, gone->list[i].start,
		                     (gone->list[i].end - gone->list[i].start) / PAGE_BYTES));
}

/* A page that was never sent reads as zeros, or as the mapped file's. */
static inline void assert_page(const struct copy *copy, const struct process *process, uint64_t address,
                               const struct area *area, unsigned char unsent)
{
	bool is_shared = area && area_content(area) == AREA_CONTENT_SHARED;
	uint64_t key = is_shared ? address - area->entry.start + area->entry.pgoff : address;
	unsigned char there[PAGE_BYTES];
	unsigned char expected[PAGE_BYTES];
	uint64_t bytes;

	memset(expected, unsent, sizeof(expected));
	if (number_map_find(copy->pages, key, is_shared ? area->inode : 0, &bytes))
		memcpy(expected, copy_bytes(bytes), PAGE_BYTES);
	assert_int_equal(pread(process->mem_fd, there, PAGE_BYTES, (off_t)address), PAGE_BYTES);
	assert_memory_equal(there, expected, PAGE_BYTES);
}

static inline void assert_area(const struct copy *copy, const struct process *process, const unsigned char *area,
                               size_t pages, unsigned char unsent)
{
	auto_areas struct areas areas = {0};

	assert_ok(areas_read(process->pid, &areas));
	for (size_t i = 0; area && i < pages; i++)
		assert_page(copy, process, (uintptr_t)area + i * PAGE_BYTES, areas_find(&areas, (uintptr_t)area),
		            unsent);
}

static inline struct tracker *track(const struct test_subject *subject, enum track how)
{
	struct tracker *tracker = NULL;
	auto_process struct process *process = NULL;

	assert_ok(process_seize(subject->pid, &process));
	assert_ok(process_stop(process));
	assert_ok(process_enter(process, 0, 0));
	auto_error struct error *error = tracker_new(process, how, &tracker);
	assert_ok(process_thaw(process));
	if (error && error_errnum(error) == EOPNOTSUPP) {
		fprintf(stderr, "skipped: %s\n", error_line(error));
		return NULL;
	}
	assert_null(error);
	return tracker;
}

static inline void send_shared(const struct test_subject *subject, const struct areas *areas,
                               const struct tracker *tracker, struct copy *copy)
{
	auto_shared_objects struct shared_objects objects = {0};

	shared_objects_add_areas(&objects, subject->pid, areas);
	const struct unwritten unwritten[] = {{subject->pid, tracker_unwritten(tracker)}, {0}};
	assert_ok(shared_sender_send(copy->shared, &objects, unwritten, true, &copy->sink));
}

static inline void look_again(pid_t pid, struct areas *areas, struct tracker *tracker, struct copy *copy)
{
	struct areas now;

	assert_ok(areas_read(pid, &now));
	auto_ranges struct ranges gone = areas_gone(areas, &now);
	tracker_forget(tracker, &gone);
	copy_forget(copy, &gone);
	areas_free(areas);
	*areas = now;
}

static inline void make_file(const struct tempdir *dir, const char *name, size_t size_bytes, int byte,
                             char ret_path[PATH_BYTES])
{
	auto_free char *bytes = xalloc(size_bytes);

	memset(bytes, byte, size_bytes);
	tempdir_put(dir, name, bytes, size_bytes);
	snprintf(ret_path, PATH_BYTES, "%s/%s", dir->path, name);
}
