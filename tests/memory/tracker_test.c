/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Rounds over a process that changes its memory between them in every way there is: at the end a copy that was made from
 * what the rounds sent is the same.
 */

#include <pthread.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>

#include "memory/copy.h"

static const size_t private_pages = 512;
static const size_t shared_pages = 128;
enum { CHANGES = 300, ROUNDS = 6 };

/* ---- The process ---- */

struct places {
	unsigned char *private, *shared, *twice, *again, *file, *come_and_go; /* twice and again: the same pages */
	int memfd;
	uint64_t random;
	char path[PATH_BYTES];
};

/* xorshift: the same in every run. */
static uint64_t next_random(struct places *places)
{
	places->random ^= places->random << 13;
	places->random ^= places->random >> 7;
	places->random ^= places->random << 17;
	return places->random;
}

static unsigned char *map(size_t pages, int flags, int fd)
{
	unsigned char *area = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (area == MAP_FAILED)
		abort();
	return area;
}

/* Times that are younger than a tick or two don't tell whether a file has changed. */
static void wait_for_old_times(int fd)
{
	struct stat file;
	struct timespec now;

	fstat(fd, &file);
	do
		clock_gettime(CLOCK_REALTIME, &now);
	while (now.tv_sec == file.st_ctim.tv_sec && now.tv_nsec < file.st_ctim.tv_nsec + 25000000);
}

static void set_up(struct places *places)
{
	int fd = open(places->path, O_RDONLY | O_CLOEXEC);

	places->random = 42;
	places->private = map(private_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	places->file = map(shared_pages, MAP_PRIVATE, fd);
	close(fd);
	places->memfd = memfd_create("changes", MFD_CLOEXEC);
	if (ftruncate(places->memfd, (off_t)(shared_pages * PAGE_BYTES)) < 0)
		abort();
	places->shared = map(shared_pages, MAP_SHARED, places->memfd);
	places->twice = map(shared_pages, MAP_SHARED | MAP_ANONYMOUS, -1);
	memset(places->private, 1, private_pages / 2 * PAGE_BYTES);
	memset(places->shared, 2, shared_pages * PAGE_BYTES);
	memset(places->twice, 3, shared_pages * PAGE_BYTES);
	wait_for_old_times(places->memfd);
}

static void store(struct places *places, unsigned char *area, size_t pages)
{
	uint64_t value = next_random(places);

	memcpy(area + value % pages * PAGE_BYTES + 8 * (value >> 32) % 512, &value, sizeof(value));
}

static void change(struct places *places)
{
	uint64_t value = next_random(places);
	size_t page = value / 16 % shared_pages;

	switch (value % 16) {
	case 0:
		madvise(places->private + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
		break;
	case 1:
		madvise(places->file + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
		break;
	case 2:
		store(places, places->file, shared_pages);
		break;
	case 3:
		if (pwrite(places->memfd, &value, sizeof(value), (off_t)(page * PAGE_BYTES)) != sizeof(value))
			abort();
		break;
	case 4:
		if (fallocate(places->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE_BYTES),
		              PAGE_BYTES) < 0)
			abort();
		break;
	case 5:
		store(places, places->shared, shared_pages);
		break;
	case 6:
		store(places, places->again && page % 2 ? places->again : places->twice, shared_pages);
		break;
	case 7:
		memset(places->private + page * PAGE_BYTES, 0, PAGE_BYTES);
		break;
	default:
		store(places, places->private, private_pages);
	}
}

/* The same pages once more, in the page tables at once: mremap(2). */
static unsigned char *double_mapping(unsigned char *area)
{
	unsigned char *again = mremap(area, 0, shared_pages * PAGE_BYTES, MREMAP_MAYMOVE);

	if (again == MAP_FAILED || madvise(again, shared_pages * PAGE_BYTES, MADV_POPULATE_WRITE) < 0)
		abort();
	return again;
}

/* Areas that come, go and come again elsewhere in the same place. */
static void change_areas(struct places *places, unsigned step)
{
	if (step == 2)
		places->again = double_mapping(places->twice);
	if (step % 2) {
		places->come_and_go = map(shared_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		memset(places->come_and_go, (int)step, shared_pages / 2 * PAGE_BYTES);
	} else {
		munmap(places->come_and_go, shared_pages * PAGE_BYTES);
	}
}

static uint64_t run(unsigned step, void *shared)
{
	struct places *places = shared;

	if (step == 0) {
		set_up(places);
		return 0;
	}
	for (int i = 0; i < CHANGES; i++)
		change(places);
	change_areas(places, step);
	return 0;
}

/* ---- Rounds ---- */

static void assert_arrives_whole(enum track how)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct places *places = mmap(NULL, sizeof(*places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();

	make_file(&dir, "file", shared_pages * PAGE_BYTES, 'f', places->path);
	auto_test_subject struct test_subject subject = subject_start(run, places);
	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, how);
	if (!tracker)
		skip();
	struct process process = subject_process(&subject);
	for (unsigned step = 1; step <= ROUNDS; step++) {
		uint64_t left;

		look_again(subject.pid, &areas, tracker, &copy);
		assert_ok(tracker_round(tracker, &areas, &copy.sink));
		send_shared(&subject, &areas, tracker, &copy);
		subject_do(&subject, step);
		assert_ok(tracker_count(tracker, &areas, &left));
		assert_true(left > 0);
	}
	look_again(subject.pid, &areas, tracker, &copy);
	assert_ok(tracker_finish(tracker, &areas, &copy.sink));
	send_shared(&subject, &areas, tracker, &copy);
	assert_area(&copy, &process, places->private, private_pages, 0);
	assert_area(&copy, &process, places->file, shared_pages, 'f');
	assert_area(&copy, &process, places->come_and_go, ROUNDS % 2 ? shared_pages : 0, 0);
	assert_area(&copy, &process, places->shared, shared_pages, 0);
	assert_area(&copy, &process, places->twice, shared_pages, 0);
	assert_area(&copy, &process, places->again, shared_pages, 0);
	close(process.mem_fd);
	munmap(places, sizeof(*places));
}

static void test_memory_arrives_whole_by_userfaultfd(void **state)
{
	(void)state;
	assert_arrives_whole(TRACK_USERFAULTFD);
}

static void test_memory_arrives_whole_by_soft_dirty_bits(void **state)
{
	(void)state;
	assert_arrives_whole(TRACK_SOFT_DIRTY);
}

static void test_memory_arrives_whole_by_hashes(void **state)
{
	(void)state;
	assert_arrives_whole(TRACK_HASH);
}

/* ---- Hot pages ---- */

struct hot_places {
	unsigned char *area;
};

static uint64_t run_hot(unsigned step, void *shared)
{
	struct hot_places *places = shared;

	if (step == 0)
		places->area = map(private_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	/* One page is written in every round, another one in each round of its own. */
	places->area[0] = (unsigned char)(step + 1);
	places->area[(size_t)(step + 1) * PAGE_BYTES] = (unsigned char)(step + 1);
	return 0;
}

static void *share(size_t size_bytes)
{
	void *room = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		abort();
	return room;
}

static void test_a_page_written_in_every_round_is_left_for_the_last(void **state)
{
	struct hot_places *places = share(PAGE_BYTES);
	auto_test_subject struct test_subject subject = subject_start(run_hot, places);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();
	size_t put_pages[ROUNDS];
	uint64_t left;

	(void)state;
	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, TRACK_USERFAULTFD);
	struct process process = subject_process(&subject);
	for (unsigned step = 1; step < ROUNDS; step++) {
		copy.put_pages = 0;
		look_again(subject.pid, &areas, tracker, &copy);
		assert_ok(tracker_round(tracker, &areas, &copy.sink));
		put_pages[step] = copy.put_pages;
		subject_do(&subject, step);
	}
	/* The process's own stack and such are written in every round, too. */
	assert_true(put_pages[ROUNDS - 1] < put_pages[2]);
	assert_ok(tracker_count(tracker, &areas, &left));
	assert_true(left >= 2);
	copy.put_pages = 0;
	assert_ok(tracker_finish(tracker, &areas, &copy.sink));
	assert_true(copy.put_pages >= 2);
	assert_area(&copy, &process, places->area, private_pages, 0);
	close(process.mem_fd);
	munmap(places, PAGE_BYTES);
}

/* ---- Areas that are replaced ---- */

/* Step 1 writes a page in the first half and makes the second half another area. */
static uint64_t run_replaced(unsigned step, void *shared)
{
	struct hot_places *places = shared;
	unsigned char *half;

	if (step == 0)
		places->area = map(private_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(places->area, (int)step + 1, PAGE_BYTES);
	if (step == 0)
		return 0;
	half = places->area + private_pages / 2 * PAGE_BYTES;
	munmap(half, private_pages / 2 * PAGE_BYTES);
	if (mmap(half, private_pages / 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
	         -1, 0) != half)
		abort();
	memset(half, 7, PAGE_BYTES);
	return 0;
}

static void test_an_area_replaced_in_part_since_it_was_listed_arrives(void **state)
{
	struct hot_places *places = share(PAGE_BYTES);
	auto_test_subject struct test_subject subject = subject_start(run_replaced, places);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();

	(void)state;
	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, TRACK_USERFAULTFD);
	struct process process = subject_process(&subject);
	look_again(subject.pid, &areas, tracker, &copy);
	assert_ok(tracker_round(tracker, &areas, &copy.sink));
	subject_do(&subject, 1);
	assert_ok(tracker_round(tracker, &areas, &copy.sink));
	assert_ok(tracker_finish(tracker, &areas, &copy.sink));
	assert_area(&copy, &process, places->area, private_pages, 0);
	close(process.mem_fd);
	munmap(places, PAGE_BYTES);
}

/* In the read(2) in which it waits for the next step. */
static void hold_in_call(pid_t pid)
{
	for (bool is_in_call = false; !is_in_call; usleep(1000)) {
		auto_free char *text = NULL;

		is_in_call = procfs_read(pid, "syscall", &text, NULL) == 0 && text[0] == '0';
	}
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_round_of_a_held_process_asks_for_no_other_hold(void **state)
{
	struct hot_places *places = share(PAGE_BYTES);
	auto_test_subject struct test_subject subject = subject_start(run_replaced, places);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();

	(void)state;
	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, TRACK_USERFAULTFD);
	struct process process = subject_process(&subject);
	hold_in_call(subject.pid);
	look_again(subject.pid, &areas, tracker, &copy);
	assert_ok(tracker_round_held(tracker, &areas, &copy.sink));
	assert_area(&copy, &process, places->area, private_pages, 0);
	assert_int_equal(ptrace(PTRACE_DETACH, subject.pid, NULL, NULL), 0);
	close(process.mem_fd);
	munmap(places, PAGE_BYTES);
}

/* Areas of one size that are mapped anew and moved to where others were: the kernel joins some of them with their new
 * neighbours, which then are not registered any more although their pages look protected. */
enum { PARTS = 8, PART_PAGES = 256, CHANGES_OF_PARTS = 60 };

struct moving_places {
	unsigned char *parts[PARTS];
	struct places random;
};

static void move(unsigned char **part)
{
	unsigned char *to = map(PART_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	const size_t part_bytes = (size_t)PART_PAGES * PAGE_BYTES;

	*part = mremap(*part, part_bytes, part_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (*part == MAP_FAILED)
		abort();
}

static void change_part(struct moving_places *places)
{
	uint64_t value = next_random(&places->random);
	unsigned char **part = &places->parts[value % PARTS];
	size_t page = value / PARTS % PART_PAGES;

	switch (value >> 50 & 63) {
	case 0:
		munmap(*part, (size_t)PART_PAGES * PAGE_BYTES);
		*part = map(PART_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	case 1:
		move(part);
		break;
	case 2:
		madvise(*part + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
		break;
	default:
		/* Some pages again and again. */
		memcpy(*part + (value >> 60 < 8 ? page % 16 : page) * PAGE_BYTES, &value, sizeof(value));
	}
}

static uint64_t run_moving(unsigned step, void *shared)
{
	struct moving_places *places = shared;

	for (size_t i = 0; step == 0 && i < PARTS; i++) {
		places->parts[i] = map(PART_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		for (size_t page = 0; page < PART_PAGES; page += 2)
			memset(places->parts[i] + page * PAGE_BYTES, 1, sizeof(uint64_t));
	}
	for (unsigned i = 0; step > 0 && i < CHANGES_OF_PARTS; i++)
		change_part(places);
	return 0;
}

static void assert_moving_arrive(uint64_t seed)
{
	struct moving_places *places = share(sizeof(*places));
	auto_test_subject struct test_subject subject = subject_start(run_moving, places);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();

	places->random.random = seed;
	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, TRACK_USERFAULTFD);
	struct process process = subject_process(&subject);
	for (unsigned step = 1; step <= ROUNDS; step++) {
		look_again(subject.pid, &areas, tracker, &copy);
		assert_ok(tracker_round(tracker, &areas, &copy.sink));
		subject_do(&subject, step);
	}
	look_again(subject.pid, &areas, tracker, &copy);
	assert_ok(tracker_finish(tracker, &areas, &copy.sink));
	for (size_t i = 0; i < PARTS; i++)
		for (size_t page = 0; page < PART_PAGES; page++)
			assert_page(&copy, &process, (uintptr_t)places->parts[i] + page * PAGE_BYTES, NULL, 0);
	close(process.mem_fd);
	munmap(places, sizeof(*places));
}

static void test_areas_that_are_joined_by_moving_arrive(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++)
		assert_moving_arrive(seed * UINT64_C(0x9e3779b97f4a7c15));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_arrives_whole_by_userfaultfd),
		cmocka_unit_test(test_memory_arrives_whole_by_soft_dirty_bits),
		cmocka_unit_test(test_memory_arrives_whole_by_hashes),
		cmocka_unit_test(test_a_page_written_in_every_round_is_left_for_the_last),
		cmocka_unit_test(test_an_area_replaced_in_part_since_it_was_listed_arrives),
		cmocka_unit_test(test_a_round_of_a_held_process_asks_for_no_other_hold),
		cmocka_unit_test(test_areas_that_are_joined_by_moving_arrive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
