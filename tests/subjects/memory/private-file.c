/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Private mappings of files: pages that were written are the program's own, the others are the file's, and stay so. Of
 * one file that is there and one that was deleted; from the middle of the file; with the protections that code and
 * relocated data have.
 */
#include <errno.h>

#include "smaps.h"

enum { PAGES = 24, FROM = 4, WRITTEN = 5, WRITTEN_PAGES = 3, FILE_SEED = 1000, OWN_SEED = 2000 };

struct mapped {
	const char *name;
	bool is_deleted;
	int protection;
	int fd;   /* of the file; -1: closed before it is carried */
	char *at; /* maps it from page FROM on */
};

static struct mapped mappings[] = {
	{"text", false, PROT_READ | PROT_EXEC, -1, NULL},
	{"data", false, PROT_READ | PROT_WRITE, -1, NULL},
	{"hidden", false, PROT_NONE, -1, NULL},
	{"gone", true, PROT_READ, -1, NULL},
	{"gone-data", true, PROT_READ | PROT_WRITE, -1, NULL},
};
enum { COUNT = sizeof(mappings) / sizeof(mappings[0]), SIZE = (PAGES - FROM) * SMAPS_PAGE_BYTES };

static char *path_of(const struct subject *subject, const struct mapped *mapped)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, mapped->name);
	return path;
}

static void make(const struct subject *subject, struct mapped *mapped)
{
	static char content[PAGES * SMAPS_PAGE_BYTES];
	int fd = open(path_of(subject, mapped), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	pages_write(content, 0, PAGES, FILE_SEED);
	if (fd < 0 || write(fd, content, sizeof(content)) != sizeof(content))
		subject_fail(subject, "set-up of %s: errno %d", mapped->name, errno);
	mapped->at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, FROM * SMAPS_PAGE_BYTES);
	if (mapped->at == MAP_FAILED)
		subject_fail(subject, "mmap: errno %d", errno);
	pages_write(mapped->at, WRITTEN, WRITTEN_PAGES, OWN_SEED);
	/* Read, and so in the page table, but not its own. */
	pages_check(subject, "set-up", mapped->at - FROM * SMAPS_PAGE_BYTES, FROM, 1, FILE_SEED);
	mprotect(mapped->at, SIZE, mapped->protection);
	if (mapped->is_deleted)
		unlink(path_of(subject, mapped));
	close(fd);
}

static void check(const struct subject *subject, const struct mapped *mapped)
{
	char *file_start = mapped->at - FROM * SMAPS_PAGE_BYTES;

	if (mprotect(mapped->at, SIZE, PROT_READ) < 0)
		subject_fail(subject, "mprotect: errno %d", errno);
	pages_check(subject, mapped->name, file_start, FROM, WRITTEN, FILE_SEED);
	pages_check(subject, mapped->name, mapped->at, WRITTEN, WRITTEN_PAGES, OWN_SEED);
	pages_check(subject, mapped->name, file_start, FROM + WRITTEN + WRITTEN_PAGES,
	            PAGES - FROM - WRITTEN - WRITTEN_PAGES, FILE_SEED);
	if (mapped->is_deleted)
		return;

	/* What the program never wrote still shows what the file has. */
	char byte = 'n';
	int fd = open(path_of(subject, mapped), O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, &byte, 1, (FROM + 1) * SMAPS_PAGE_BYTES) != 1 ||
	    pwrite(fd, &byte, 1, (FROM + WRITTEN) * SMAPS_PAGE_BYTES) != 1)
		subject_fail(subject, "write to %s: errno %d", mapped->name, errno);
	close(fd);
	if (mapped->at[SMAPS_PAGE_BYTES] != 'n')
		subject_fail(subject, "%s: page 1 is the file's no more", mapped->name);
	pages_check(subject, "its own after a write to the file", mapped->at, WRITTEN, 1, OWN_SEED);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();

	for (size_t i = 0; i < COUNT; i++)
		make(&subject, &mappings[i]);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	for (size_t i = 0; i < COUNT; i++)
		check(&subject, &mappings[i]);
	return subject_pass(&subject);
}
