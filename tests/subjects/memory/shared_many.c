/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* More objects of shared memory than files for them are open at a time; each with content of its own. */
#include <errno.h>

#include "smaps.h"

enum { OBJECTS = 150, PAGES = 32, SIZE = PAGES * SMAPS_PAGE_BYTES };

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char *objects[OBJECTS];

	for (size_t i = 0; i < OBJECTS; i++) {
		objects[i] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (objects[i] == MAP_FAILED)
			subject_fail(&subject, "mmap: errno %d", errno);
		pages_write(objects[i], 0, PAGES, i);
	}

	subject_ready(&subject);

	for (size_t i = 0; i < OBJECTS; i++)
		pages_check(&subject, "one of many", objects[i], 0, PAGES, i);
	return subject_pass(&subject);
}
