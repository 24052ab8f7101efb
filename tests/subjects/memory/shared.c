/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared anonymous memory of one process: mapped twice, in parts, in pieces of other protections, read-only, with a hole
 * that was never touched, and with an end that no mapping shows but mremap(2) brings back; its last page is zero.
 */
#include <errno.h>

#include "smaps.h"

enum { PAGES = 32, SIZE = PAGES * SMAPS_PAGE_BYTES, HOLE = 10, HOLE_PAGES = 6, HIDDEN = 24, PIECE = 4 };

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (shared == MAP_FAILED || other == MAP_FAILED)
		subject_fail(&subject, "set-up: errno %d", errno);
	pages_write(shared, 0, HOLE, 5);
	pages_write(shared, HOLE + HOLE_PAGES, PAGES - 1 - HOLE - HOLE_PAGES, 5);
	pages_write(other, 0, PAGES, 6);
	char *twin = mremap(shared, 0, SIZE, MREMAP_MAYMOVE);
	char *part = mremap(shared + PIECE * SMAPS_PAGE_BYTES, 0, 8 * SMAPS_PAGE_BYTES, MREMAP_MAYMOVE);
	if (twin == MAP_FAILED || part == MAP_FAILED)
		subject_fail(&subject, "mremap: errno %d", errno);
	if (mprotect(twin, SIZE, PROT_READ) < 0 || mprotect(shared, SMAPS_PAGE_BYTES, PROT_NONE) < 0 ||
	    mprotect(other, SIZE, PROT_READ) < 0)
		subject_fail(&subject, "mprotect: errno %d", errno);
	munmap(shared + HIDDEN * SMAPS_PAGE_BYTES, (PAGES - HIDDEN) * SMAPS_PAGE_BYTES);
	munmap(twin + HIDDEN * SMAPS_PAGE_BYTES, (PAGES - HIDDEN) * SMAPS_PAGE_BYTES);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	mprotect(shared, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE);
	pages_check(&subject, "shared", shared, 0, HOLE, 5);
	pages_check_zero(&subject, "hole", shared, HOLE, HOLE_PAGES);
	pages_check(&subject, "shared", shared, HOLE + HOLE_PAGES, HIDDEN - HOLE - HOLE_PAGES, 5);
	pages_check(&subject, "part", part - PIECE * SMAPS_PAGE_BYTES, PIECE, HOLE - PIECE, 5);
	pages_check(&subject, "other", other, 0, PAGES, 6);
	if (mprotect(other, SIZE, PROT_READ | PROT_WRITE) < 0)
		subject_fail(&subject, "read-only memory can't become writable: errno %d", errno);

	pages_write(shared, PIECE, 1, 7);
	pages_check(&subject, "twin, written through the first", twin, PIECE, 1, 7);
	pages_check(&subject, "part, written through the first", part - PIECE * SMAPS_PAGE_BYTES, PIECE, 1, 7);

	char *grown = mremap(shared, HIDDEN * SMAPS_PAGE_BYTES, SIZE, MREMAP_MAYMOVE);
	if (grown == MAP_FAILED)
		subject_fail(&subject, "mremap to its old size: errno %d", errno);
	pages_check(&subject, "what no mapping showed", grown, HIDDEN, PAGES - 1 - HIDDEN, 5);
	pages_check_zero(&subject, "its last page", grown, PAGES - 1, 1);
	return subject_pass(&subject);
}
