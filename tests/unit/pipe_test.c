/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Pipes saved and made again. */

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "file-extra.pb-c.h"
#include "lib/file_trip.h"
#include "pipe-data.pb-c.h"

struct ends {
	int reader, writer;
};

static struct ends make_pipe(int flags)
{
	int ends[2];

	assert_int_equal(pipe2(ends, flags | O_NONBLOCK | O_CLOEXEC), 0);
	return (struct ends){.reader = ends[0], .writer = ends[1]};
}

static void close_both(struct ends *ends)
{
	close(ends->reader);
	close(ends->writer);
}
#define auto_ends __attribute__((cleanup(close_both)))

static struct ends carry(struct trip *trip, const struct ends *before)
{
	struct ends after = {-1, -1};
	uint32_t reader = trip_add(trip, before->reader)->id;
	uint32_t writer = trip_add(trip, before->writer)->id;

	assert_ok(trip_save(trip));
	assert_ok(trip_restore(trip, writer, &after.writer)); /* the order is nobody's business */
	assert_ok(trip_restore(trip, reader, &after.reader));
	return after;
}

static void assert_reads(int fd, const char *expected)
{
	char seen[64] = "";

	assert_int_equal(read(fd, seen, sizeof(seen) - 1), strlen(expected));
	assert_string_equal(seen, expected);
}

static void test_content_is_carried_and_stays(void **state)
{
	(void)state;
	auto_ends struct ends before = make_pipe(0);
	struct trip trip;

	assert_int_equal(write(before.writer, "in two ", 7), 7);
	assert_int_equal(write(before.writer, "pieces", 6), 6);
	assert_int_equal(fcntl(before.writer, F_SETPIPE_SZ, 131072), 131072);
	trip_begin(&trip);
	auto_ends struct ends after = carry(&trip, &before);
	assert_int_equal(image_count(trip.store, IMAGE_FILE_EXTRA, 0), 0);
	trip_end(&trip);

	assert_int_equal(fcntl(after.reader, F_GETPIPE_SZ), 131072);
	assert_reads(after.reader, "in two pieces");
	assert_reads(before.reader, "in two pieces");
	assert_int_equal(fcntl(after.writer, F_GETFL), fcntl(before.writer, F_GETFL));
}

static void test_packets_stay_apart(void **state)
{
	(void)state;
	auto_ends struct ends before = make_pipe(O_DIRECT);
	struct trip trip;

	assert_int_equal(write(before.writer, "one", 3), 3);
	assert_int_equal(write(before.writer, "two", 3), 3);
	trip_begin(&trip);
	auto_ends struct ends after = carry(&trip, &before);
	trip_end(&trip);

	assert_int_equal(write(after.writer, "three", 5), 5);
	assert_reads(after.reader, "one");
	assert_reads(after.reader, "two");
	assert_reads(after.reader, "three");
}

static void test_the_only_packet_stays_apart_from_the_next(void **state)
{
	(void)state;
	auto_ends struct ends before = make_pipe(O_DIRECT);
	struct trip trip;

	assert_int_equal(write(before.writer, "one", 3), 3);
	trip_begin(&trip);
	auto_ends struct ends after = carry(&trip, &before);
	trip_end(&trip);

	assert_int_equal(write(after.writer, "two", 3), 3);
	assert_reads(after.reader, "one");
}

static void test_a_full_pipe_is_full_again(void **state)
{
	(void)state;
	auto_ends struct ends before = make_pipe(0);
	static const char bytes[4096];
	struct trip trip;
	int unread = 0;

	while (write(before.writer, bytes, sizeof(bytes)) > 0)
		continue;
	trip_begin(&trip);
	auto_ends struct ends after = carry(&trip, &before);
	trip_end(&trip);

	assert_int_equal(ioctl(after.reader, FIONREAD, &unread), 0);
	assert_int_equal(unread, 65536);
	assert_int_equal(write(after.writer, "x", 1), -1);
}

static void test_an_end_that_nobody_has_is_closed(void **state)
{
	(void)state;
	auto_ends struct ends before = make_pipe(0);
	auto_fd int after = -1;
	struct trip trip;

	assert_int_equal(write(before.writer, "last", 4), 4);
	close(before.writer);
	before.writer = -1;
	trip_begin(&trip);
	uint32_t id = trip_add(&trip, before.reader)->id;
	assert_ok(trip_save(&trip));
	assert_ok(trip_restore(&trip, id, &after));
	trip_end(&trip);
	assert_reads(after, "last");
	assert_reads(after, "");
}

static void test_a_pipe_that_another_process_has_is_refused(void **state)
{
	(void)state;
	auto_ends struct ends ends = make_pipe(0);
	struct trip trip;
	char byte;

	trip_begin(&trip);
	const struct open_file *file = trip_add(&trip, ends.reader);
	assert_ok(trip_check(file));
	open_files_free(&trip.all);

	int other[2];
	assert_int_equal(pipe(other), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(other[1]);
		_exit(read(other[0], &byte, 1) < 0);
	}
	auto_error struct error *error = trip_check(file);
	close(other[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(other[0]);
	auto_free char *expected = xformat("also open in process %d (pipe-test)", pid);
	assert_non_null(error);
	auto_free char *line = error_line(error);
	assert_non_null(strstr(line, expected));
	trip_end(&trip);
}

static void put_data(struct trip *trip, const char *bytes, uint32_t size_bytes, uint32_t capacity_bytes)
{
	PipeDataEntry data = PIPE_DATA_ENTRY__INIT;

	data.pipe_id = 9;
	data.bytes = size_bytes;
	data.has_size = true;
	data.size = capacity_bytes;
	image_put(trip->store, IMAGE_PIPES_DATA, 0, &data.base);
	image_put_bytes(trip->store, IMAGE_PIPES_DATA, 0, bytes, size_bytes);
}

static struct error *restore_crafted(struct trip *trip, uint32_t flags)
{
	PipeEntry pipe = PIPE_ENTRY__INIT;
	FownEntry owner = FOWN_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	auto_fd int fd = -1;

	pipe.pipe_id = 9;
	pipe.flags = flags;
	pipe.fown = &owner;
	entry.type = FD_TYPES__PIPE;
	entry.pipe = &pipe;
	return trip_restore_entry(trip, &entry, &fd);
}

static void test_crafted_content_is_refused(void **state)
{
	(void)state;
	static const char bytes[8192];
	uint32_t packet_bytes[] = {5000, 5000};
	FileExtraEntry extra = FILE_EXTRA_ENTRY__INIT;
	struct trip trip;

	trip_begin(&trip);
	auto_error struct error *no_end = restore_crafted(&trip, O_ACCMODE);
	assert_int_equal(error_errnum(no_end), EBADMSG);
	put_data(&trip, bytes, sizeof(bytes), 4096);
	auto_error struct error *too_much = restore_crafted(&trip, O_RDONLY);
	assert_int_equal(error_errnum(too_much), ENOSPC);
	trip_end(&trip);

	trip_begin(&trip);
	put_data(&trip, bytes, sizeof(bytes), UINT32_MAX);
	auto_error struct error *huge = restore_crafted(&trip, O_RDONLY);
	assert_int_equal(error_errnum(huge), EBADMSG);
	trip_end(&trip);

	trip_begin(&trip);
	put_data(&trip, bytes, sizeof(bytes), 65536);
	extra.type = FD_TYPES__PIPE;
	extra.id = 9;
	extra.packet_bytes = packet_bytes;
	extra.n_packet_bytes = 2;
	image_put(trip.store, IMAGE_FILE_EXTRA, 0, &extra.base);
	auto_error struct error *packets = restore_crafted(&trip, O_RDONLY);
	assert_int_equal(error_errnum(packets), EBADMSG);
	trip_end(&trip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_content_is_carried_and_stays),
		cmocka_unit_test(test_packets_stay_apart),
		cmocka_unit_test(test_the_only_packet_stays_apart_from_the_next),
		cmocka_unit_test(test_a_full_pipe_is_full_again),
		cmocka_unit_test(test_an_end_that_nobody_has_is_closed),
		cmocka_unit_test(test_a_pipe_that_another_process_has_is_refused),
		cmocka_unit_test(test_crafted_content_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
