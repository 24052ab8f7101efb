/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What madvise(2), mlock(2) and the flags of mmap(2) have said about areas, one area each and some of it together: the
 * kernel shows all of it in smaps, but for the guards, whose pages can't be read. An area that grows downwards still does.
 */
#include <errno.h>
#include <sys/uio.h>

#include "smaps.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

enum { PAGES = 8, ROOM_PAGES = 64, BELOW_PAGES = 16, GUARD = 3, GUARD_PAGES = 2 };

struct advised {
	const char *what;
	int map_flags;
	int advice[3]; /* 0: no more */
	int lock;      /* 0: none, 1: mlock(2), 2: on fault */
	char *at;
};

static struct advised areas[] = {
	{"nothing", 0, {0}, 0, NULL},
	{"noreserve", MAP_NORESERVE, {0}, 0, NULL},
	{"locked", MAP_LOCKED, {0}, 0, NULL},
	{"locked by mlock", 0, {0}, 1, NULL},
	{"locked on fault", 0, {0}, 2, NULL},
	{"grows down", MAP_GROWSDOWN, {0}, 0, NULL},
	{"not for forks", 0, {MADV_DONTFORK}, 0, NULL},
	{"not for core dumps", 0, {MADV_DONTDUMP}, 0, NULL},
	{"wiped on fork", 0, {MADV_WIPEONFORK}, 0, NULL},
	{"mergeable", 0, {MADV_MERGEABLE}, 0, NULL},
	{"huge pages", 0, {MADV_HUGEPAGE}, 0, NULL},
	{"no huge pages", 0, {MADV_NOHUGEPAGE}, 0, NULL},
	{"random", 0, {MADV_RANDOM}, 0, NULL},
	{"sequential", 0, {MADV_SEQUENTIAL}, 0, NULL},
	{"several", MAP_NORESERVE, {MADV_DONTFORK, MADV_DONTDUMP, MADV_HUGEPAGE}, 2, NULL},
};
enum { COUNT = sizeof(areas) / sizeof(areas[0]) };

static void make(const struct subject *subject, struct advised *area, size_t index)
{
	const size_t size = PAGES * SMAPS_PAGE_BYTES;
	char *room = mmap(NULL, ROOM_PAGES * SMAPS_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* Nothing below it, for what grows. */
	munmap(room, ROOM_PAGES * SMAPS_PAGE_BYTES);
	area->at = mmap(room + (ROOM_PAGES - BELOW_PAGES) * SMAPS_PAGE_BYTES, size, PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | area->map_flags, -1, 0);
	/* The pages of the next one may not touch these. */
	(void)mmap(room + ROOM_PAGES / 2 * SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS,
	           -1, 0);
	if (area->at == MAP_FAILED)
		subject_fail(subject, "set-up of %s: errno %d", area->what, errno);
	for (size_t i = 0; i < 3 && area->advice[i]; i++)
		if (madvise(area->at, size, area->advice[i]) < 0)
			subject_skip(subject, "madvise(%d): errno %d", area->advice[i], errno);
	if (area->lock && mlock2(area->at, size, area->lock == 2 ? MLOCK_ONFAULT : 0) < 0)
		subject_fail(subject, "mlock2: errno %d", errno);
	pages_write(area->at, 1, PAGES - 2, index);
}

static int touch(void *at)
{
	char byte;
	const struct iovec to = {&byte, 1};
	const struct iovec from = {at, 1};

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ? 0 : errno;
}

static void check_guards(const struct subject *subject, char *guarded)
{
	for (size_t i = 0; i < PAGES; i++) {
		bool is_guard = i >= GUARD && i < GUARD + GUARD_PAGES;
		int seen = touch(guarded + i * SMAPS_PAGE_BYTES);

		if (seen != (is_guard ? EFAULT : 0))
			subject_fail(subject, "page %zu of the area with guards: errno %d", i, seen);
	}
	pages_check(subject, "before the guards", guarded, 0, GUARD, COUNT);
	pages_check(subject, "behind the guards", guarded, GUARD + GUARD_PAGES, PAGES - GUARD - GUARD_PAGES, COUNT);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();

	for (size_t i = 0; i < COUNT; i++)
		make(&subject, &areas[i], i);
	char *guarded =
		mmap(NULL, PAGES * SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pages_write(guarded, 0, PAGES, COUNT);
	if (madvise(guarded + GUARD * SMAPS_PAGE_BYTES, GUARD_PAGES * SMAPS_PAGE_BYTES, MADV_GUARD_INSTALL) < 0)
		subject_skip(&subject, "guard regions: errno %d (Linux 6.13 has them)", errno);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	for (size_t i = 0; i < COUNT; i++)
		pages_check(&subject, areas[i].what, areas[i].at, 1, PAGES - 2, i);
	check_guards(&subject, guarded);

	char *below = areas[5].at - SMAPS_PAGE_BYTES;
	*(volatile char *)below = 1; /* or SIGSEGV */
	return subject_pass(&subject);
}
