/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Private memory of each protection that mmap(2) knows, written before it got it: that nobody can read or write it is no
 * reason to lose what is in it. A hole in the middle of each was never touched, and one page was given back.
 */
#include <errno.h>

#include "smaps.h"

enum { PAGES = 16, HOLE = 6, HOLE_PAGES = 4, GIVEN_BACK = 12 };

static const int protections[] = {
	PROT_NONE,
	PROT_READ,
	PROT_WRITE,
	PROT_EXEC,
	PROT_READ | PROT_WRITE,
	PROT_READ | PROT_EXEC,
	PROT_WRITE | PROT_EXEC,
	PROT_READ | PROT_WRITE | PROT_EXEC,
};
enum { COUNT = sizeof(protections) / sizeof(protections[0]) };

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const size_t size = PAGES * SMAPS_PAGE_BYTES;
	struct smaps *smaps = smaps_new();
	char *areas[COUNT];

	for (size_t i = 0; i < COUNT; i++) {
		/* Apart from each other, so that no two become one. */
		char *room = mmap(NULL, size * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		areas[i] = mmap(room, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (room == MAP_FAILED || areas[i] == MAP_FAILED)
			subject_fail(&subject, "set-up: errno %d", errno);
		pages_write(areas[i], 0, HOLE, i);
		pages_write(areas[i], HOLE + HOLE_PAGES, PAGES - HOLE - HOLE_PAGES, i);
		madvise(areas[i] + GIVEN_BACK * SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, MADV_DONTNEED);
		if (mprotect(areas[i], size, protections[i]) < 0)
			subject_fail(&subject, "mprotect(%d): errno %d", protections[i], errno);
	}
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	for (size_t i = 0; i < COUNT; i++) {
		if (mprotect(areas[i], size, PROT_READ) < 0)
			subject_fail(&subject, "mprotect back: errno %d", errno);
		pages_check(&subject, "memory", areas[i], 0, HOLE, i);
		pages_check_zero(&subject, "never touched", areas[i], HOLE, HOLE_PAGES);
		pages_check(&subject, "memory", areas[i], HOLE + HOLE_PAGES, GIVEN_BACK - HOLE - HOLE_PAGES, i);
		pages_check_zero(&subject, "given back", areas[i], GIVEN_BACK, 1);
		pages_check(&subject, "memory", areas[i], GIVEN_BACK + 1, PAGES - GIVEN_BACK - 1, i);
	}
	return subject_pass(&subject);
}
