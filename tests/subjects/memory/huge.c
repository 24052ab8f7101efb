/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Huge pages: private and shared ones of MAP_HUGETLB, read-only, with pages that were never touched, and a memfd of them.
 */
#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "huge_pages.h"
#include "smaps.h"

enum { PAGES = 3, SIZE = PAGES * HUGE_BYTES, SMALL_PAGES = HUGE_BYTES / SMAPS_PAGE_BYTES };
static char *map(const struct subject *subject, int flags, int fd)
{
	char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		subject_skip(subject, "no huge pages: mmap: errno %d (sysctl vm.nr_hugepages)", errno);
	return at;
}

/* The first and the last of the huge pages; the one between is never touched. */
static void fill(char *at, uint64_t seed)
{
	pages_write(at, 1, 5, seed);
	pages_write(at, 2 * SMALL_PAGES, SMALL_PAGES, seed);
}

static void check(const struct subject *subject, const char *what, const char *at, uint64_t seed)
{
	pages_check_zero(subject, what, at, 0, 1);
	pages_check(subject, what, at, 1, 5, seed);
	pages_check_zero(subject, what, at, 6, 2 * SMALL_PAGES - 6);
	pages_check(subject, what, at, 2 * SMALL_PAGES, SMALL_PAGES, seed);
}

/* Gives a huge page back and takes it again, all the time. */
struct changing {
	char *at;
	atomic_bool is_over;
	bool is_there;
	int advice; /* how it is given back: shared memory would keep it with MADV_DONTNEED */
	const struct subject *subject;
	pthread_t thread;
};

static void check_changing(const struct changing *changing)
{
	if (changing->is_there)
		pages_check(changing->subject, "the page that comes and goes", changing->at, 0, SMALL_PAGES / 2, 5);
	else
		pages_check_zero(changing->subject, "the page that comes and goes", changing->at, 0, SMALL_PAGES);
}

static void *change(void *data)
{
	struct changing *changing = data;
	const struct timespec pause = {.tv_nsec = 3000000};

	while (!atomic_load(&changing->is_over)) {
		check_changing(changing);
		changing->is_there = !changing->is_there;
		if (changing->is_there)
			pages_write(changing->at, 0, SMALL_PAGES / 2, 5);
		else
			madvise(changing->at, HUGE_BYTES, changing->advice);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	struct changing changing[2] = {
		{.subject = &subject, .advice = MADV_DONTNEED},
		{.subject = &subject, .advice = MADV_REMOVE},
	};
	struct stat stat;

	huge_pages_allow();
	changing[0].at = map(&subject, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	changing[1].at = map(&subject, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	char *own = map(&subject, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1);
	char *read_only = map(&subject, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	char *shared = map(&subject, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_HUGE_2MB);
	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		subject_skip(&subject, "no memfd of huge pages: errno %d", errno);
	char *mapped = map(&subject, MAP_SHARED, fd);
	fill(own, 1);
	fill(read_only, 2);
	fill(shared, 3);
	fill(mapped, 4);
	mprotect(read_only, SIZE, PROT_READ);
	for (int i = 0; i < 2; i++)
		if (pthread_create(&changing[i].thread, NULL, change, &changing[i]) != 0)
			subject_fail(&subject, "thread");
	smaps_before(smaps);

	subject_ready(&subject);

	for (int i = 0; i < 2; i++) {
		atomic_store(&changing[i].is_over, true);
		pthread_join(changing[i].thread, NULL);
		check_changing(&changing[i]);
	}
	smaps_check(smaps, &subject);
	check(&subject, "private", own, 1);
	check(&subject, "read-only", read_only, 2);
	check(&subject, "shared", shared, 3);
	check(&subject, "memfd", mapped, 4);
	if (fstat(fd, &stat) < 0 || stat.st_size != SIZE || stat.st_blksize != HUGE_BYTES)
		subject_fail(&subject, "memfd: %lld bytes in pages of %ld", (long long)stat.st_size,
		             (long)stat.st_blksize);
	return subject_pass(&subject);
}
