/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memory that a thread changes all the time while it is carried, in ways that write-protected pages don't tell of: by
 * write(2) to a memfd, by punching holes into it, by another mapping of it, by changing its size, by giving pages back and
 * by mapping anew at the same place. What each page has to be is noted in ordinary memory, and looked at before it is
 * changed again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "smaps.h"

enum { PAGES = 64, SIZE = PAGES * SMAPS_PAGE_BYTES };

static atomic_bool is_over;
static struct subject subject;

/* Seed of what each page was last written with; 0: it is zero. */
static struct {
	uint64_t file[PAGES], size_changing[PAGES], anonymous[PAGES], shared[PAGES], deleted[PAGES], twice[PAGES];
	size_t pages; /* of size_changing */
	uint64_t fresh;
	size_t fresh_page;
} expected;

static int file, size_changing, deleted, fresh;
static char *mapped, *other, *anonymous, *shared, *view, *deleted_view, *twice, *again;

static void check_page(const char *what, const char *at, size_t page, uint64_t seed)
{
	if (seed)
		pages_check(&subject, what, at, page, 1, seed);
	else
		pages_check_zero(&subject, what, at, page, 1);
}

static void put(int fd, size_t page, uint64_t seed)
{
	static char bytes[SMAPS_PAGE_BYTES] __attribute__((aligned(SMAPS_PAGE_BYTES)));

	memset(bytes, 0, sizeof(bytes));
	pages_write(bytes - page * SMAPS_PAGE_BYTES, page, 1, seed);
	if (pwrite(fd, bytes, sizeof(bytes), (off_t)page * SMAPS_PAGE_BYTES) != sizeof(bytes))
		abort();
}

static void change_file(size_t page, uint64_t seed)
{
	off_t offset = (off_t)page * SMAPS_PAGE_BYTES;

	check_page("memfd", mapped, page, expected.file[page]);
	expected.file[page] = seed;
	switch (seed % 4) {
	case 0:
		expected.file[page] = 0;
		if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, SMAPS_PAGE_BYTES) < 0)
			abort();
		break;
	case 1:
		put(file, page, seed);
		break;
	case 2:
		pages_write(mapped, page, 1, seed);
		break;
	default:
		pages_write(other, page, 1, seed);
	}
}

static void change_size(size_t page, uint64_t seed)
{
	off_t size = lseek(size_changing, 0, SEEK_END);

	if (size != (off_t)expected.pages * SMAPS_PAGE_BYTES)
		subject_fail(&subject, "size %lld, not %zu pages", (long long)size, expected.pages);
	if (page < expected.pages)
		check_page("memfd whose size changes", view, page, expected.size_changing[page]);
	if (seed % 3 == 0) {
		if (ftruncate(size_changing, (off_t)page * SMAPS_PAGE_BYTES) < 0)
			abort();
		for (size_t i = page; i < PAGES; i++)
			expected.size_changing[i] = 0;
		expected.pages = page;
		return;
	}
	put(size_changing, page, seed);
	expected.size_changing[page] = seed;
	if (expected.pages < page + 1)
		expected.pages = page + 1;
}

static void change_anonymous(size_t page, uint64_t seed)
{
	char *at = anonymous + page * SMAPS_PAGE_BYTES;

	check_page("anonymous memory", anonymous, page, expected.anonymous[page]);
	expected.anonymous[page] = 0;
	if (seed % 3 == 0) {
		madvise(at, SMAPS_PAGE_BYTES, MADV_DONTNEED);
	} else if (seed % 3 == 1) {
		if (mmap(at, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		         0) != at)
			abort();
	} else {
		pages_write(anonymous, page, 1, seed);
		expected.anonymous[page] = seed;
	}
}

static void change_shared(size_t page, uint64_t seed)
{
	check_page("shared memory", shared, page, expected.shared[page]);
	expected.shared[page] = seed % 2 ? seed : 0;
	if (seed % 2)
		pages_write(shared, page, 1, seed);
	else
		madvise(shared + page * SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, MADV_REMOVE);
}

static void change_deleted(size_t page, uint64_t seed)
{
	off_t offset = (off_t)page * SMAPS_PAGE_BYTES;

	check_page("deleted file", deleted_view, page, expected.deleted[page]);
	expected.deleted[page] = seed % 3 ? seed : 0;
	if (seed % 3 == 0 &&
	    fallocate(deleted, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, SMAPS_PAGE_BYTES) < 0)
		abort();
	else if (seed % 3 == 1)
		put(deleted, page, seed);
	else if (seed % 3 == 2)
		pages_write(deleted_view, page, 1, seed);
}

/* One that nobody maps, and that is another one in each round. */
static void change_descriptor(size_t page, uint64_t seed)
{
	uint64_t word;

	if (pread(fresh, &word, sizeof(word), (off_t)expected.fresh_page * SMAPS_PAGE_BYTES) != sizeof(word) ||
	    word != pages_word(expected.fresh, expected.fresh_page))
		subject_fail(&subject, "memfd without a mapping: page %zu has changed", expected.fresh_page);
	close(fresh);
	fresh = memfd_create("fresh", MFD_CLOEXEC);
	if (fresh < 0)
		abort();
	put(fresh, page, seed);
	expected.fresh = seed;
	expected.fresh_page = page;
}

/* Written through either of its mappings. */
static void change_twice(size_t page, uint64_t seed)
{
	check_page("memory mapped twice", twice, page, expected.twice[page]);
	pages_write(seed % 2 ? twice : again, page, 1, seed);
	expected.twice[page] = seed;
}

static void *change(void *unused)
{
	const struct timespec pause = {.tv_nsec = 20000};
	uint64_t random = 88172645463325252;

	(void)unused;
	for (uint64_t n = 1; !atomic_load(&is_over); n++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		size_t page = random % PAGES;
		uint64_t seed = (random >> 20) + 1;

		change_file(page, seed);
		change_size(page, seed);
		change_anonymous(page, seed);
		change_shared(page, seed);
		change_deleted(page, seed);
		change_twice(page, seed);
		change_descriptor(page, seed);
		if (n % 4 == 0)
			nanosleep(&pause, NULL);
	}
	return NULL;
}

static void make_deleted(void)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/deleted", subject.dir);
	deleted = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (deleted < 0 || ftruncate(deleted, SIZE) < 0 || unlink(path) < 0)
		subject_fail(&subject, "deleted file: errno %d", errno);
	deleted_view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, deleted, 0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	subject = subject_begin(argc, argv);
	make_deleted();
	file = memfd_create("file", 0);
	size_changing = memfd_create("size", 0);
	fresh = memfd_create("fresh", MFD_CLOEXEC);
	put(fresh, 0, 1);
	expected.fresh = 1;
	if (file < 0 || size_changing < 0 || ftruncate(file, SIZE) < 0)
		subject_fail(&subject, "memfd: errno %d", errno);
	mapped = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	anonymous = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	view = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, size_changing, 0);
	twice = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	again = mremap(twice, 0, SIZE, MREMAP_MAYMOVE);
	for (size_t i = 0; i < PAGES; i++) {
		change_file(i, 4 * i + 1);
		change_size(i, 3 * i + 1);
		change_anonymous(i, 3 * i + 2);
		change_shared(i, 2 * i + 1);
		change_deleted(i, 3 * i + 1);
		change_twice(i, i + 1);
	}
	if (pthread_create(&thread, NULL, change, NULL) != 0)
		subject_fail(&subject, "thread");

	subject_ready(&subject);

	atomic_store(&is_over, true);
	pthread_join(thread, NULL);
	for (size_t i = 0; i < PAGES; i++) {
		check_page("memfd", mapped, i, expected.file[i]);
		check_page("anonymous memory", anonymous, i, expected.anonymous[i]);
		check_page("shared memory", shared, i, expected.shared[i]);
		check_page("deleted file", deleted_view, i, expected.deleted[i]);
	}
	for (size_t i = 0; i < expected.pages; i++)
		check_page("memfd whose size changes", view, i, expected.size_changing[i]);
	return subject_pass(&subject);
}
