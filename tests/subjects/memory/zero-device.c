/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Mappings of /dev/zero, which are memory without a file: private as anonymous memory, shared as shared memory. */
#include <errno.h>

#include "smaps.h"

enum { PAGES = 10, SIZE = PAGES * SMAPS_PAGE_BYTES };

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	char *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (own == MAP_FAILED || shared == MAP_FAILED)
		subject_fail(&subject, "set-up: errno %d", errno);
	close(fd);
	pages_write(own, 0, PAGES / 2, 1);
	pages_write(shared, PAGES / 2, PAGES - PAGES / 2, 2);
	char *twin = mremap(shared, 0, SIZE, MREMAP_MAYMOVE); /* the same memory once more: mremap(2) */
	if (twin == MAP_FAILED)
		subject_fail(&subject, "mremap: errno %d", errno);

	subject_ready(&subject);

	pages_check(&subject, "private", own, 0, PAGES / 2, 1);
	pages_check_zero(&subject, "private", own, PAGES / 2, PAGES - PAGES / 2);
	pages_check_zero(&subject, "shared", shared, 0, PAGES / 2);
	pages_check(&subject, "shared", shared, PAGES / 2, PAGES - PAGES / 2, 2);
	pages_write(twin, 0, 1, 3);
	pages_check(&subject, "shared, written through its twin", shared, 0, 1, 3);
	return subject_pass(&subject);
}
