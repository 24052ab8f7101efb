/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "image/pages.h"
#include "memory/shared.h"
#include "memory/shared_rounds.h"
#include "util/alloc.h"

/* Times of files advance with the kernel's tick, 10 ms at most: a change right behind a look may not move them. */
static const int64_t ticks_ns = 20000000;

/* The times of one file, as of a round. */
struct file_times {
	uint64_t device, inode;
	struct timespec modified, changed;
	bool is_recent; /* they may stay the same although the file changes */
	bool has_moved; /* since the round before */
};

struct times_list {
	struct file_times *list; /* owned */
	size_t count;
};

struct shared_rounds {
	struct page_hashes *hashes; /* borrowed */
	struct ranges sent;         /* what the other end has */
	struct times_list before, now;
	/* Of the round that is under way. */
	pid_t pid;
	const struct areas *areas; /* borrowed */
	struct shared_parts parts;
	size_t next;
	struct ranges put;
};

struct shared_rounds *shared_rounds_new(struct page_hashes *hashes)
{
	struct shared_rounds *shared = xalloc(sizeof(*shared));

	shared->hashes = hashes;
	return shared;
}

void shared_rounds_free(struct shared_rounds *shared)
{
	if (!shared)
		return;
	ranges_free(&shared->sent);
	ranges_free(&shared->put);
	shared_parts_free(&shared->parts);
	free(shared->before.list);
	free(shared->now.list);
	free(shared);
}

/* What the round before has put is at the other end by now. */
void shared_rounds_begin(struct shared_rounds *shared, pid_t pid, const struct areas *areas)
{
	ranges_unite(&shared->sent, &shared->put);
	ranges_free(&shared->put);
	free(shared->before.list);
	shared->before = shared->now;
	shared->now = (struct times_list){0};
	shared_parts_free(&shared->parts);
	shared->parts = shared_parts_of(areas);
	shared->next = 0;
	shared->pid = pid;
	shared->areas = areas;
}

void shared_rounds_note(struct shared_rounds *shared, uint64_t address)
{
	ranges_append(&shared->put, address, address + PAGE_BYTES);
}

void shared_rounds_forget(struct shared_rounds *shared, const struct ranges *gone)
{
	ranges_unite(&shared->sent, &shared->put);
	ranges_free(&shared->put);
	struct ranges left = ranges_without(&shared->sent, gone);
	ranges_free(&shared->sent);
	shared->sent = left;
}

/* ---- Has the file changed? ---- */

static const struct file_times *find_times(const struct times_list *times, uint64_t device, uint64_t inode)
{
	for (size_t i = 0; i < times->count; i++)
		if (times->list[i].device == device && times->list[i].inode == inode)
			return &times->list[i];
	return NULL;
}

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

/* Looked at once in a round, before any of its pages are read. */
static struct error *look_at_times(struct shared_rounds *shared, int fd, bool *ret_has_moved)
{
	struct times_list *now = &shared->now;
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat(shared memory)");
	const struct file_times *known = find_times(now, stat.st_dev, stat.st_ino);
	if (!known) {
		const struct file_times *before = find_times(&shared->before, stat.st_dev, stat.st_ino);

		now->list = xrealloc(now->list, (now->count + 1) * sizeof(*now->list));
		now->list[now->count++] = (struct file_times){
			.device = stat.st_dev,
			.inode = stat.st_ino,
			.modified = stat.st_mtim,
			.changed = stat.st_ctim,
			.is_recent = is_recent(&stat.st_ctim) || is_recent(&stat.st_mtim),
			.has_moved = !before || before->is_recent || !is_same(&before->modified, &stat.st_mtim) ||
		                     !is_same(&before->changed, &stat.st_ctim),
		};
		known = &now->list[now->count - 1];
	}
	*ret_has_moved = known->has_moved;
	return NULL;
}

/* Without a descriptor there is only the mapping to change it by: then a hole is the only other change. */
static bool has_descriptors(const struct area *area)
{
	return area->entry.status & AREA_MEMFD;
}

/* Another mapping of the same pages is a way to write them that this one doesn't see. */
static bool is_mapped_once(const struct shared_rounds *shared, const struct area *area)
{
	uint64_t end = area->entry.pgoff + (area->entry.end - area->entry.start);

	for (size_t i = 0; i < shared->areas->count; i++) {
		const struct area *other = &shared->areas->list[i];
		uint64_t other_end = other->entry.pgoff + (other->entry.end - other->entry.start);

		if (other != area && other->inode == area->inode && other->device == area->device &&
		    other->entry.pgoff < end && area->entry.pgoff < other_end)
			return false;
	}
	return true;
}

/* ---- Sending ---- */

/* Those of ranges that lie in [start, end). */
static struct ranges clip(const struct ranges *ranges, uint64_t start, uint64_t end)
{
	auto_ranges struct ranges around = {0};

	ranges_append(&around, 0, start);
	ranges_append(&around, end, UINT64_MAX);
	return ranges_without(ranges, &around);
}

static struct error *add_all(struct page_reader *reader, const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++)
		TRY(page_reader_add(reader, ranges->list[i].start,
		                    (ranges->list[i].end - ranges->list[i].start) / PAGE_BYTES));
	return NULL;
}

static struct ranges data_of(int fd, const struct shared_part *part)
{
	struct ranges data = {0};

	for (uint64_t at = part->start; at < part->end;) {
		uint64_t end = part->end;

		if (!shared_next_data(fd, part->area, &at, &end))
			break;
		ranges_append(&data, at, end);
		at = end;
	}
	return data;
}

static struct error *drop_holes(struct shared_rounds *shared, const struct shared_part *part, const struct ranges *data,
                                struct page_reader *reader)
{
	auto_ranges struct ranges sent = clip(&shared->sent, part->start, part->end);
	auto_ranges struct ranges holes = ranges_without(&sent, data);

	for (size_t i = 0; i < holes.count; i++)
		TRY(page_reader_tell(reader, holes.list[i].start,
		                     (holes.list[i].end - holes.list[i].start) / PAGE_BYTES, PAGE_DROP));
	page_hashes_forget(shared->hashes, &holes);
	shared_rounds_forget(shared, &holes);
	return NULL;
}

static struct error *send_part(struct shared_rounds *shared, const struct shared_part *part,
                               const struct ranges *unwritten, struct page_reader *reader)
{
	auto_fd int fd = -1;
	bool has_moved = true;

	TRY(area_open_file(shared->pid, part->area, &fd));
	TRY(look_at_times(shared, fd, &has_moved));
	bool is_told = is_mapped_once(shared, part->area) && !(has_moved && has_descriptors(part->area));
	auto_ranges struct ranges data = data_of(fd, part);
	auto_ranges struct ranges doubtful = ranges_without(&data, is_told ? unwritten : &(const struct ranges){0});

	TRY(page_reader_begin(reader, part->area, fd));
	TRY(add_all(reader, &doubtful));
	TRY(page_reader_flush(reader));
	TRY(drop_holes(shared, part, &data, reader));
	return page_reader_flush(reader);
}

struct error *shared_rounds_send(struct shared_rounds *shared, const struct area *area, const struct ranges *unwritten,
                                 struct page_reader *reader)
{
	const struct shared_parts *parts = &shared->parts;

	for (; shared->next < parts->count && parts->list[shared->next].area == area; shared->next++)
		TRY(send_part(shared, &parts->list[shared->next], unwritten, reader));
	return NULL;
}
