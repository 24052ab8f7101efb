/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a program can say of its memory and CRIU's images have no field for: names of areas, sealed areas, areas that the
 * kernel may drop, that all that is mapped from now on is locked, and that huge pages are for those who ask.
 */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "smaps.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif
enum { SIZE = 8 * SMAPS_PAGE_BYTES, SET_VMA = 0x53564d41, EXCEPT_ADVISED = 1 << 1, SYS_MSEAL = 462 };

static char *map(int flags)
{
	/* Apart from each other, so that no two become one. */
	char *room = mmap(NULL, SIZE * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mmap(room, SIZE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void check_locked(const struct subject *subject)
{
	char *later = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned char present[8];

	/* Locked on fault: not there yet; locked: munlock(2) has something to undo, and so /proc tells. */
	if (mincore(later, SIZE, present) < 0 || present[0] & 1)
		subject_fail(subject, "what is mapped now is locked, but not on fault");
	char *line = malloc(SMAPS_BYTES_MAX);
	smaps_read_file("/proc/self/smaps", line, SMAPS_BYTES_MAX);
	char start[32];
	snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)later);
	char *area = strstr(line, start);
	char *flags = area ? strstr(area, "VmFlags:") : NULL;
	if (!flags || !memmem(flags, strcspn(flags, "\n"), " lo ", 4))
		subject_fail(subject, "what is mapped now is not locked");
	free(line);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	char *named = map(MAP_PRIVATE);
	char *named_shared = map(MAP_SHARED);
	char *sealed = map(MAP_PRIVATE);
	char *droppable = map(MAP_DROPPABLE);

	if (droppable == MAP_FAILED || prctl(PR_SET_THP_DISABLE, 1, EXCEPT_ADVISED, 0, 0) < 0)
		subject_skip(&subject, "errno %d: an older kernel than Linux 6.18", errno);
	/* A kernel without CONFIG_ANON_VMA_NAME has no names to lose. */
	if (prctl(SET_VMA, 0, named, SIZE, "a name") == 0 && prctl(SET_VMA, 0, named_shared, SIZE, "another") < 0)
		subject_fail(&subject, "names: errno %d", errno);
	pages_write(named, 0, 8, 1);
	pages_write(named_shared, 0, 8, 2);
	pages_write(sealed, 0, 8, 3);
	pages_write(droppable, 0, 8, 4);
	if (syscall(SYS_MSEAL, sealed, SIZE, 0) < 0)
		subject_skip(&subject, "mseal: errno %d", errno);
	if (mlockall(MCL_FUTURE | MCL_ONFAULT) < 0)
		subject_fail(&subject, "mlockall: errno %d", errno);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	pages_check(&subject, "named", named, 0, 8, 1);
	pages_check(&subject, "named, shared", named_shared, 0, 8, 2);
	pages_check(&subject, "sealed", sealed, 0, 8, 3);
	if (munmap(sealed, SIZE) == 0 || errno != EPERM)
		subject_fail(&subject, "the seal is gone");
	if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != (1 | EXCEPT_ADVISED))
		subject_fail(&subject, "huge pages: %d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	check_locked(&subject);
	return subject_pass(&subject);
}
