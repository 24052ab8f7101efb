/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared mappings of a file, and of one that was deleted: what is written through one is seen through another and through
 * the descriptor, and whether a mapping may become writable depends on how the file was open when it was mapped.
 */
#include <errno.h>

#include "smaps.h"

enum { PAGES = 12, SIZE = PAGES * SMAPS_PAGE_BYTES, SEED = 77, PART = 4, PART_PAGES = 5 };

struct shared {
	const char *name;
	int fd;
	char *whole;     /* writable */
	char *part;      /* from page PART on, read-only, of a descriptor that may write */
	char *read_only; /* of a descriptor that may not */
};

static void make(const struct subject *subject, struct shared *shared, bool is_deleted)
{
	char path[4200];
	int read_fd;

	snprintf(path, sizeof(path), "%s/%s", subject->dir, shared->name);
	shared->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	read_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (shared->fd < 0 || read_fd < 0 || ftruncate(shared->fd, SIZE) < 0)
		subject_fail(subject, "set-up of %s: errno %d", shared->name, errno);
	shared->whole = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fd, 0);
	shared->part =
		mmap(NULL, PART_PAGES * SMAPS_PAGE_BYTES, PROT_READ, MAP_SHARED, shared->fd, PART * SMAPS_PAGE_BYTES);
	shared->read_only = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, read_fd, 0);
	if (shared->whole == MAP_FAILED || shared->part == MAP_FAILED || shared->read_only == MAP_FAILED)
		subject_fail(subject, "mmap: errno %d", errno);
	close(read_fd);
	pages_write(shared->whole, 0, PAGES, SEED);
	if (is_deleted)
		unlink(path);
}

static void check(const struct subject *subject, const struct shared *shared)
{
	const char *part_start = shared->part - PART * SMAPS_PAGE_BYTES;
	char byte;

	pages_check(subject, shared->name, shared->whole, 0, PAGES, SEED);
	pages_check(subject, "part", part_start, PART, PART_PAGES, SEED);
	pages_check(subject, "read-only", shared->read_only, 0, PAGES, SEED);

	pages_write(shared->whole, PART, 1, SEED + 1);
	pages_check(subject, "part, written through the whole", part_start, PART, 1, SEED + 1);
	pages_check(subject, "read-only, written through the whole", shared->read_only, PART, 1, SEED + 1);
	shared->whole[0] = 'n';
	if (pread(shared->fd, &byte, 1, 0) != 1 || byte != 'n')
		subject_fail(subject, "%s: the descriptor is of another file", shared->name);

	if (mprotect(shared->part, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
		subject_fail(subject, "the part can't become writable: errno %d", errno);
	if (mprotect(shared->read_only, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE) == 0 || errno != EACCES)
		subject_fail(subject, "the read-only one can become writable");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	struct shared there = {.name = "there"};
	struct shared deleted = {.name = "deleted"};

	make(&subject, &there, false);
	make(&subject, &deleted, true);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	check(&subject, &there);
	check(&subject, &deleted);
	return subject_pass(&subject);
}
