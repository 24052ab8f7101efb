/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memory that a device writes: what it writes into a page that was pinned beforehand is told by no write-protection. A
 * control group holds the disk up until the round waits for the read, so that the order of the two is always the same.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "memory/copy.h"
#include "util/procfs.h"

static const size_t read_bytes = 4 << 20;

struct device_places {
	unsigned char *area;
	int fd;
	pthread_t thread;
	atomic_int tid;
	char path[PATH_BYTES], group[PATH_BYTES];
};

static bool write_text(const char *dir, const char *name, const char *text)
{
	auto_free char *path = xformat("%s/%s", dir, name);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* How much of the file's disk the group may read; 0: as much as it can. */
static bool limit_reads(const struct device_places *places, unsigned bytes_per_second)
{
	struct stat stat_of_file;

	if (stat(places->path, &stat_of_file) < 0)
		return false;
	auto_free char *limit =
		xformat("%u:%u %u", major(stat_of_file.st_dev), minor(stat_of_file.st_dev), bytes_per_second);
	return write_text(places->group, "blkio.throttle.read_bps_device", limit);
}

/* A control group whose reads don't end before the limit is lifted: what is read is pinned all the while. */
static bool make_slow_group(struct device_places *places)
{
	snprintf(places->group, sizeof(places->group), "/sys/fs/cgroup/blkio/godwit-test-%d", getpid());
	return mkdir(places->group, 0700) == 0 && limit_reads(places, PAGE_BYTES);
}

static void *read_slowly(void *data)
{
	struct device_places *places = data;
	auto_free char *tid = xformat("%d", gettid());

	if (!write_text(places->group, "tasks", tid))
		abort();
	atomic_store(&places->tid, gettid());
	if (pread(places->fd, places->area, read_bytes, 0) != (ssize_t)read_bytes)
		abort();
	return NULL;
}

static void wait_for_disk_sleep(const struct device_places *places)
{
	char state = 0;

	while (state != 'D') {
		pid_t tid = atomic_load(&places->tid);
		auto_free char *name = xformat("task/%d/stat", tid);
		auto_free char *text = NULL;

		if (tid && procfs_read(getpid(), name, &text, NULL) == 0)
			state = strrchr(text, ')')[2];
		sched_yield();
	}
}

static uint64_t run_device(unsigned step, void *shared)
{
	struct device_places *places = shared;

	if (step == 0) {
		places->area = mmap(NULL, read_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (places->area == MAP_FAILED)
			abort();
		memset(places->area, 'o', read_bytes);
		places->fd = open(places->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		return (uint64_t)places->fd;
	}
	if (step == 1) {
		pthread_create(&places->thread, NULL, read_slowly, places);
		wait_for_disk_sleep(places);
	} else {
		pthread_join(places->thread, NULL);
	}
	return 0;
}

/* ---- The test ---- */

struct lifter {
	const struct device_places *places;
	pid_t pid;
	atomic_bool is_round_over;
};

static bool is_waited_for(const struct lifter *lifter)
{
	auto_free char *name = xformat("task/%d/status", atomic_load(&lifter->places->tid));
	auto_free char *status = NULL;
	uint64_t tracer;

	return procfs_read(lifter->pid, name, &status, NULL) == 0 &&
	       procfs_number(status, "TracerPid", 10, &tracer) == 0 && tracer != 0;
}

/* Lets the disk go on once somebody waits for the end of the read, or nobody will any more. */
static void *lift_limit(void *context)
{
	struct lifter *lifter = context;

	while (!is_waited_for(lifter) && !atomic_load(&lifter->is_round_over))
		usleep(1000);
	if (!limit_reads(lifter->places, 0))
		abort();
	return NULL;
}

static void assert_device_is_seen(struct device_places *places)
{
	auto_test_subject struct test_subject subject = subject_start(run_device, places);
	auto_areas struct areas areas = {0};
	auto_copy struct copy copy = copy_new();

	subject_do(&subject, 0);
	auto_tracker struct tracker *tracker = track(&subject, TRACK_USERFAULTFD);
	struct process process = subject_process(&subject);
	struct lifter lifter = {.places = places, .pid = subject.pid};
	pthread_t thread;

	subject_do(&subject, 1);
	look_again(subject.pid, &areas, tracker, &copy);
	assert_int_equal(pthread_create(&thread, NULL, lift_limit, &lifter), 0);
	assert_ok(tracker_round(tracker, &areas, &copy.sink));
	atomic_store(&lifter.is_round_over, true);
	pthread_join(thread, NULL);
	subject_do(&subject, 2);
	assert_ok(tracker_finish(tracker, &areas, &copy.sink));
	assert_area(&copy, &process, places->area, read_bytes / PAGE_BYTES, 0);
	close(process.mem_fd);
}

static void test_what_a_disk_writes_behind_the_protection_arrives(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct device_places *places =
		mmap(NULL, sizeof(*places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	make_file(&dir, "file", read_bytes, 'n', places->path);
	sync();
	if (make_slow_group(places))
		assert_device_is_seen(places);
	else
		fprintf(stderr, "skipped: no control group of version 1 slows down reads of %s\n", places->path);
	rmdir(places->group);
	munmap(places, sizeof(*places));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_disk_writes_behind_the_protection_arrives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
