/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/shared.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/own.h"

/* ---- Parts ---- */

/* Areas of shared memory, in ascending order. */
struct shared_list {
	const struct area **list; /* owned */
	size_t count;
};

static struct shared_list list_shared(const struct areas *areas)
{
	struct shared_list shared = {.list = xalloc((areas->count + 1) * sizeof(*shared.list))};

	for (size_t i = 0; i < areas->count; i++)
		if (area_content(&areas->list[i]) == AREA_CONTENT_SHARED)
			shared.list[shared.count++] = &areas->list[i];
	return shared;
}

/*
 * From an offset of area number index: how far no earlier area maps the same (*ret_is_new), or how far one does.
 */
static uint64_t extent(const struct shared_list *shared, size_t index, uint64_t offset, bool *ret_is_new)
{
	const struct area *area = shared->list[index];
	uint64_t end = area->entry.pgoff + (area->entry.end - area->entry.start);

	for (size_t i = 0; i < index; i++) {
		const struct area *earlier = shared->list[i];
		uint64_t begin = earlier->entry.pgoff;
		uint64_t limit = begin + (earlier->entry.end - earlier->entry.start);

		if (earlier->inode != area->inode || earlier->device != area->device || limit <= offset)
			continue;
		if (begin <= offset) {
			*ret_is_new = false;
			return limit < end ? limit : end;
		}
		if (begin < end)
			end = begin;
	}
	*ret_is_new = true;
	return end;
}

static void append_part(struct shared_parts *parts, const struct area *area, uint64_t start, uint64_t end)
{
	parts->list = xrealloc(parts->list, (parts->count + 1) * sizeof(*parts->list));
	parts->list[parts->count++] = (struct shared_part){.area = area, .start = start, .end = end};
}

struct shared_parts shared_parts_of(const struct areas *areas)
{
	struct shared_list shared = list_shared(areas);
	struct shared_parts parts = {0};

	for (size_t i = 0; i < shared.count; i++) {
		const struct area *area = shared.list[i];
		uint64_t base = area->entry.start - area->entry.pgoff; /* of offset 0, modulo 2^64 */
		uint64_t end = area->entry.pgoff + (area->entry.end - area->entry.start);

		for (uint64_t at = area->entry.pgoff; at < end;) {
			bool is_new;
			uint64_t next = extent(&shared, i, at, &is_new);

			if (is_new)
				append_part(&parts, area, base + at, base + next);
			at = next;
		}
	}
	free(shared.list);
	return parts;
}

void shared_parts_free(struct shared_parts *parts)
{
	free(parts->list);
	*parts = (struct shared_parts){0};
}

/* ---- Content ---- */

struct error *area_open_file(pid_t pid, const struct area *area, int *ret_fd)
{
	auto_free char *path = xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, area->vma_start, area->vma_end);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_hint(error_new(errno, "open(%s)", path),
		                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this");
	*ret_fd = fd;
	return NULL;
}

bool shared_next_data(int fd, const struct area *area, uint64_t *start, uint64_t *end)
{
	uint64_t base = area->entry.start - area->entry.pgoff;
	off_t limit = (off_t)(*end - base);
	off_t data = lseek(fd, (off_t)(*start - base), SEEK_DATA);

	if (data < 0 || data >= limit)
		return false;
	off_t hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0 || hole > limit)
		hole = limit;
	/* A file may end in the middle of a page. */
	*start = base + ((uint64_t)data & ~(uint64_t)(PAGE_BYTES - 1));
	*end = base + (((uint64_t)hole + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1));
	return true;
}
