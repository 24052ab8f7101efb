/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* eventfds saved and made again. */

#include <errno.h>
#include <sys/eventfd.h>

#include "lib/file_trip.h"
#include "util/procfs.h"

/* Every value that has a bit of its own: 0, 1, more than eventfd2 takes, the most there is. */
static const uint64_t counters[] = {0, 1, 2, UINT32_MAX, 0x123456789abcdef, UINT64_MAX - 1};

static void carry(int before, int *ret_after)
{
	struct trip trip;

	trip_begin(&trip);
	uint32_t id = trip_add(&trip, before)->id;
	assert_ok(trip_save(&trip));
	assert_ok(trip_restore(&trip, id, ret_after));
	trip_end(&trip);
}

static void test_counter_and_mode_survive(void **state)
{
	const int *mode = *state;

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		auto_fd int before = eventfd(0, *mode | EFD_NONBLOCK);
		auto_fd int after = -1;
		eventfd_t seen = 0;

		assert_int_equal(eventfd_write(before, counters[i]), 0);
		carry(before, &after);

		assert_int_equal(eventfd_read(after, &seen), counters[i] ? 0 : -1);
		assert_int_equal(seen, *mode && counters[i] ? 1 : counters[i]);
	}
}

static void test_saving_leaves_the_counter_alone(void **state)
{
	(void)state;
	auto_fd int fd = eventfd(41, EFD_SEMAPHORE);
	auto_fd int after = -1;
	uint64_t counter = 0;

	carry(fd, &after);
	auto_free char *fdinfo = trip_fdinfo(fd);
	assert_int_equal(procfs_number(fdinfo, "eventfd-count", 16, &counter), 0);
	assert_int_equal(counter, 41);
}

static void test_a_kernel_that_hides_the_mode_is_named(void **state)
{
	(void)state;
	auto_image_store struct image_store *store = image_store_new();
	const struct open_file file = {.link = "anon_inode:[eventfd]", .fdinfo = "eventfd-count: 1\n"};
	auto_error struct error *error = file_ops_for(&file)->save(&file, store);

	assert_non_null(error);
	assert_int_equal(error_errnum(error), ENOENT);
	assert_int_equal(image_count(store, IMAGE_FILES, 0), 0);
}

static void test_crafted_entries_are_refused(void **state)
{
	(void)state;
	EventfdFileEntry eventfd = EVENTFD_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	struct trip trip;
	int fd = -1;

	trip_begin(&trip);
	entry.type = FD_TYPES__EVENTFD;
	auto_error struct error *no_eventfd = trip_restore_entry(&trip, &entry, &fd);
	assert_int_equal(error_errnum(no_eventfd), EBADMSG);

	entry.efd = &eventfd;
	eventfd.counter = UINT64_MAX;
	auto_error struct error *too_much = trip_restore_entry(&trip, &entry, &fd);
	assert_int_equal(error_errnum(too_much), EOVERFLOW);
	assert_int_equal(fd, -1);
	trip_end(&trip);
}

int main(void)
{
	int plain = 0;
	int semaphore = EFD_SEMAPHORE;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_counter_and_mode_survive, &plain),
		cmocka_unit_test_prestate(test_counter_and_mode_survive, &semaphore),
		cmocka_unit_test(test_saving_leaves_the_counter_alone),
		cmocka_unit_test(test_a_kernel_that_hides_the_mode_is_named),
		cmocka_unit_test(test_crafted_entries_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
