/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Saved pages, their way to a directory and back, chains of directories, and pagemaps that somebody made up. */

#include <endian.h>
#include <errno.h>
#include <sys/stat.h>

#include "image/pagemap.h"
#include "image/pages.h"
#include "image/pages_ahead.h"
#include "lib/tempdir.h"
#include "lib/unit.h"
#include "pagemap.pb-c.h"
#include "util/alloc.h"

enum { PID = 42 };

/* ---- Helpers ---- */

/* Puts pages whose bytes are all mark. */
static void put(struct pages_writer *writer, uint64_t address, size_t page_count, uint8_t mark)
{
	auto_free uint8_t *bytes = xalloc(page_count * PAGE_BYTES);

	memset(bytes, mark, page_count * PAGE_BYTES);
	assert_ok(pages_writer_put(writer, address, bytes, page_count));
}

/* The next run must be this one, with those bytes. */
static void assert_run(struct pages_reader *reader, uint64_t address, size_t page_count, uint8_t mark)
{
	struct page_run run;

	assert_true(pages_reader_next(reader, &run));
	assert_int_equal(run.address, address);
	assert_int_equal(run.page_count, page_count);
	auto_free uint8_t *bytes = xalloc(page_count * PAGE_BYTES);
	assert_ok(pages_reader_read(reader, &run, 0, bytes, page_count));
	for (size_t i = 0; i < page_count * PAGE_BYTES; i++)
		assert_int_equal(bytes[i], mark);
}

static void assert_end(struct pages_reader *reader)
{
	struct page_run run;

	assert_false(pages_reader_next(reader, &run));
	assert_ok(pages_reader_verify(reader));
}

/* A directory with these pages; in_parent pages behind them. */
static void save(const struct tempdir *dir, uint64_t address, size_t page_count, uint8_t mark)
{
	auto_pages_writer struct pages_writer *writer = NULL;

	assert_ok(pages_writer_open(dir->fd, PID, 1, &writer));
	put(writer, address, page_count, mark);
	assert_ok(pages_writer_finish(writer));
}

static void set_parent(const struct tempdir *child, const char *path)
{
	assert_int_equal(symlinkat(path, child->fd, "parent"), 0);
}

/* A pagemap by hand, and a file of pages. */
struct forged {
	uint8_t bytes[1024];
	size_t size_bytes;
};

static void forge(struct forged *forged, const void *bytes, size_t size_bytes)
{
	assert_true(forged->size_bytes + size_bytes <= sizeof(forged->bytes));
	memcpy(&forged->bytes[forged->size_bytes], bytes, size_bytes);
	forged->size_bytes += size_bytes;
}

static void forge_message(struct forged *forged, const ProtobufCMessage *message)
{
	uint8_t bytes[256];
	uint32_t length = htole32((uint32_t)protobuf_c_message_pack(message, bytes));

	forge(forged, &length, sizeof(length));
	forge(forged, bytes, le32toh(length));
}

static struct forged forged_new(void)
{
	PagemapHead head = PAGEMAP_HEAD__INIT;
	struct forged forged = {0};

	head.pages_id = 1;
	forge(&forged, pagemap_magics, sizeof(pagemap_magics));
	forge_message(&forged, &head.base);
	return forged;
}

static void forge_entry(struct forged *forged, uint64_t address, uint64_t page_count, uint32_t flags)
{
	PagemapEntry entry = PAGEMAP_ENTRY__INIT;

	entry.vaddr = address;
	entry.has_nr_pages = true;
	entry.nr_pages = page_count;
	entry.has_flags = true;
	entry.flags = flags;
	forge_message(forged, &entry.base);
}

/* Reads the forged pagemap together with two saved pages. */
static struct error *read_forged(const struct forged *forged)
{
	static const uint8_t pages[2 * PAGE_BYTES];
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;

	tempdir_put(&dir, "pages-1.img", pages, sizeof(pages));
	tempdir_put(&dir, "pagemap-42.img", forged->bytes, forged->size_bytes);
	return pages_reader_open(dir.fd, PID, &reader);
}

/* ---- There and back ---- */

static void test_pages_come_back(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_writer struct pages_writer *writer = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	assert_ok(pages_writer_open(dir.fd, PID, 1, &writer));
	put(writer, 0x10000, 1, 'a');
	put(writer, 0x20000, 700, 'b'); /* more than is gathered */
	put(writer, 0x7fffffff0000, 3, 'c');
	assert_int_equal(pages_writer_count(writer), 704);
	assert_ok(pages_writer_finish(writer));

	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_run(reader, 0x10000, 1, 'a');
	assert_run(reader, 0x20000, 700, 'b');
	assert_run(reader, 0x7fffffff0000, 3, 'c');
	assert_end(reader);
}

static off_t pages_bytes(const struct tempdir *dir)
{
	struct stat stat;

	assert_int_equal(fstatat(dir->fd, "pages-1.img", &stat, 0), 0);
	return stat.st_size;
}

static void test_pages_wait_in_memory_where_there_is_room(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_writer struct pages_writer *writer = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	assert_ok(pages_writer_open(dir.fd, PID, 1, &writer));
	pages_writer_gather(writer, (size_t)300 * PAGE_BYTES);
	for (uint64_t i = 0; i < 300; i++)
		put(writer, 0x10000 + i * PAGE_BYTES, 1, 'a');
	assert_int_equal(pages_bytes(&dir), 0);
	put(writer, 0x10000 + 300 * PAGE_BYTES, 1, 'a');
	assert_int_equal(pages_bytes(&dir), 301 * PAGE_BYTES);
	assert_ok(pages_writer_finish(writer));

	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_run(reader, 0x10000, 301, 'a');
	assert_end(reader);
}

static void test_neighbours_become_one_run(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_writer struct pages_writer *writer = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;
	struct stat stat;

	(void)state;
	assert_ok(pages_writer_open(dir.fd, PID, 1, &writer));
	for (uint64_t i = 0; i < 500; i++)
		put(writer, 0x10000 + i * PAGE_BYTES, 1, 'a');
	assert_ok(pages_writer_finish(writer));

	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_run(reader, 0x10000, 500, 'a');
	assert_end(reader);
	assert_int_equal(fstatat(dir.fd, "pagemap-42.img", &stat, 0), 0);
	assert_true(stat.st_size < 50); /* and it is one in the file */
}

static void test_shared_memory_has_files_of_its_own(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_writer struct pages_writer *writer = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	assert_ok(pages_writer_open_shared(dir.fd, PID, 9, &writer));
	put(writer, 0, 2, 's');
	assert_ok(pages_writer_finish(writer));
	assert_int_equal(faccessat(dir.fd, "pagemap-shmem-42.img", F_OK, 0), 0);
	assert_ok(pages_reader_open_shared(dir.fd, PID, &reader));
	assert_run(reader, 0, 2, 's');
	assert_end(reader);
}

static void test_without_pages_no_file_of_them_is_needed(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_writer struct pages_writer *writer = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	assert_ok(pages_writer_open(dir.fd, PID, 1, &writer));
	assert_ok(pages_writer_finish(writer));
	assert_int_equal(unlinkat(dir.fd, "pages-1.img", 0), 0);
	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_end(reader);
}

static void test_files_that_are_not_finished_are_gone(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct pages_writer *writer = NULL;

	(void)state;
	assert_ok(pages_writer_open(dir.fd, PID, 1, &writer));
	put(writer, 0x10000, 700, 'a');
	pages_writer_free(writer);
	assert_int_equal(tempdir_count(&dir), 0);
}

static void test_files_that_exist_are_an_error(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct pages_writer *writer = NULL;

	(void)state;
	tempdir_put(&dir, "pages-1.img", "old", 3);
	assert_error(pages_writer_open(dir.fd, PID, 1, &writer), EEXIST, "pages-1.img");
	assert_int_equal(tempdir_count(&dir), 1);
}

/* ---- Parents ---- */

static void test_pages_come_from_parents_of_parents(void **state)
{
	auto_tempdir struct tempdir first = tempdir_new();
	auto_tempdir struct tempdir second = tempdir_new();
	auto_tempdir struct tempdir third = tempdir_new();
	auto_pages_writer struct pages_writer *middle = NULL;
	auto_pages_writer struct pages_writer *last = NULL;
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	save(&first, 0x10000, 16, '1');
	set_parent(&second, first.path);
	assert_ok(pages_writer_open(second.fd, PID, 1, &middle));
	assert_ok(pages_writer_put_in_parent(middle, 0x10000, 4));
	put(middle, 0x14000, 2, '2');
	assert_ok(pages_writer_put_in_parent(middle, 0x16000, 10));
	assert_ok(pages_writer_finish(middle));
	set_parent(&third, second.path);
	assert_ok(pages_writer_open(third.fd, PID, 1, &last));
	put(last, 0x11000, 1, '3');
	assert_ok(pages_writer_put_in_parent(last, 0x12000, 4)); /* two pages of the first, two of the second */
	put(last, 0x17000, 1, '4');
	assert_ok(pages_writer_put_in_parent(last, 0x1f000, 1));
	assert_int_equal(pages_writer_count(last), 2);
	assert_ok(pages_writer_finish(last));

	assert_ok(pages_reader_open(third.fd, PID, &reader));
	assert_run(reader, 0x11000, 1, '3');
	assert_run(reader, 0x12000, 2, '1');
	assert_run(reader, 0x14000, 2, '2');
	assert_run(reader, 0x17000, 1, '4');
	assert_run(reader, 0x1f000, 1, '1');
	assert_end(reader);
}

/* A directory that says that pages at 0x10000 are in its parent. */
static void save_in_parent(const struct tempdir *dir, size_t page_count)
{
	auto_pages_writer struct pages_writer *writer = NULL;

	assert_ok(pages_writer_open(dir->fd, PID, 1, &writer));
	assert_ok(pages_writer_put_in_parent(writer, 0x10000, page_count));
	assert_ok(pages_writer_finish(writer));
}

static void test_pages_that_no_parent_has_are_an_error(void **state)
{
	auto_tempdir struct tempdir parent = tempdir_new();
	auto_tempdir struct tempdir child = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	save_in_parent(&child, 4);
	assert_error(pages_reader_open(child.fd, PID, &reader), ENOENT, "pages at 0x10000 are in the parent");
	set_parent(&child, parent.path);
	assert_error(pages_reader_open(child.fd, PID, &reader), ENOENT, "parent number 1: open pagemap-42.img");
	save(&parent, 0x10000, 3, 'p');
	assert_error(pages_reader_open(child.fd, PID, &reader), ENODATA, "the page at 0x13000");
}

static void test_a_parent_that_is_not_needed_need_not_be_there(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	save(&dir, 0x10000, 3, 'p');
	set_parent(&dir, "nowhere");
	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_run(reader, 0x10000, 3, 'p');
}

static void test_a_directory_that_is_its_own_ancestor_is_an_error(void **state)
{
	auto_tempdir struct tempdir one = tempdir_new();
	auto_tempdir struct tempdir other = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;

	(void)state;
	save_in_parent(&one, 1);
	save_in_parent(&other, 1);
	set_parent(&one, other.path);
	set_parent(&other, one.path);
	assert_error(pages_reader_open(one.fd, PID, &reader), ELOOP, "the directory is a parent of itself");
}

static void test_no_descriptors_stay_open(void **state)
{
	auto_tempdir struct tempdir parent = tempdir_new();
	auto_tempdir struct tempdir child = tempdir_new();
	struct pages_reader *reader = NULL;
	int before = dup(child.fd);

	(void)state;
	save(&parent, 0x10000, 3, 'p');
	save_in_parent(&child, 4);
	set_parent(&child, parent.path);
	error_free(pages_reader_open(child.fd, PID, &reader)); /* the fourth page isn't there */
	assert_null(reader);
	int after = dup(child.fd);
	assert_int_equal(after, before + 1);
	close(before);
	close(after);
}

/* ---- Pagemaps that somebody made up ---- */

static void test_entries_that_make_no_sense_are_errors(void **state)
{
	static const struct {
		uint64_t address, page_count;
		uint32_t flags;
		int errnum;
		const char *words;
	} examples[] = {
		{0x30001, 1, PAGEMAP_PRESENT, EBADMSG, "pagemap_entry 1: address 0x30001 is not that of a page"},
		{0x30000, 0, PAGEMAP_PRESENT, EBADMSG, "0 pages at 0x30000"},
		{0x30000, UINT64_MAX / PAGE_BYTES, PAGEMAP_PRESENT, EBADMSG, "pages at 0x30000"},
		{0x10000, 1, PAGEMAP_PRESENT, EBADMSG, "pages at 0x10000 come after pages up to 0x11000"},
		{0xf000, 1, PAGEMAP_PRESENT, EBADMSG, "pages at 0xf000 come after pages up to 0x11000"},
		{0x30000, 1, 0, EBADMSG, "flags 0 say nothing"},
		{0x30000, 1, PAGEMAP_PRESENT | PAGEMAP_IN_PARENT, EBADMSG, "flags 0x5 say nothing"},
		{0x30000, 1, PAGEMAP_LAZY, ENODATA, "lazy pages"},
		{0x30000, 1, 0x80, EOPNOTSUPP, "unknown flags 0x80"},
		{0x30000, 2, PAGEMAP_PRESENT, EBADMSG, "pages-1.img: has 8192 bytes, too few for 3 pages"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct forged forged = forged_new();

		forge_entry(&forged, 0x10000, 1, PAGEMAP_PRESENT);
		forge_entry(&forged, examples[i].address, examples[i].page_count, examples[i].flags);
		assert_error(read_forged(&forged), examples[i].errnum, examples[i].words);
	}
}

static void test_pages_that_may_come_late_are_read_like_others(void **state)
{
	struct forged forged = forged_new();

	(void)state;
	forge_entry(&forged, 0x10000, 2, PAGEMAP_PRESENT | PAGEMAP_LAZY);
	assert_ok(read_forged(&forged));
}

static void test_old_entries_without_flags_are_understood(void **state)
{
	PagemapEntry entry = PAGEMAP_ENTRY__INIT;
	struct forged forged = forged_new();

	(void)state;
	entry.vaddr = 0x10000;
	entry.compat_nr_pages = 2;
	forge_message(&forged, &entry.base);
	assert_ok(read_forged(&forged));
	entry.vaddr = 0x30000;
	entry.has_in_parent = true;
	entry.in_parent = true;
	forge_message(&forged, &entry.base);
	assert_error(read_forged(&forged), ENOENT, "pages at 0x30000 are in the parent");
}

static void test_a_pagemap_cut_off_anywhere_is_an_error(void **state)
{
	struct forged forged = forged_new();
	const size_t head_bytes = forged.size_bytes;

	(void)state;
	forge_entry(&forged, 0x10000, 2, PAGEMAP_PRESENT);
	for (size_t size_bytes = 0; size_bytes < forged.size_bytes; size_bytes++) {
		struct forged cut = forged;

		cut.size_bytes = size_bytes;
		auto_error struct error *error = read_forged(&cut);
		assert_int_equal(error == NULL, size_bytes == head_bytes);
	}
}

static void test_a_message_that_is_too_long_is_not_read(void **state)
{
	struct forged forged = forged_new();

	(void)state;
	forge(&forged, "\xff\xff\xff\xff", 4);
	assert_error(read_forged(&forged), E2BIG, "pagemap_entry 0: has 4294967295 bytes");
}

static void test_another_image_is_not_a_pagemap(void **state)
{
	struct forged forged = {0};

	(void)state;
	forge(&forged, "\x19\x43\x56\x54\x30\x30\x27\x50", 8);
	assert_error(read_forged(&forged), EBADMSG, "pagemap-42.img: begins with 0x50273030 where 0x56084025");
}

/* ---- Ahead ---- */

enum { MANY_PAGES = 1000, RUN_PAGES = 70 }; /* more than a piece, and no multiple of it */

/* Runs with a page between two, each with a mark of its own. */
static void save_many(const struct tempdir *dir)
{
	auto_pages_writer struct pages_writer *writer = NULL;

	assert_ok(pages_writer_open(dir->fd, PID, 1, &writer));
	for (size_t run = 0; run < MANY_PAGES / RUN_PAGES; run++)
		put(writer, 0x10000 + run * (RUN_PAGES + 1) * PAGE_BYTES, RUN_PAGES, (uint8_t)(run + 1));
	assert_ok(pages_writer_finish(writer));
}

static void assert_piece(const struct pages_piece *piece)
{
	size_t page = (piece->address - 0x10000) / PAGE_BYTES;
	const uint8_t *bytes = piece->bytes;

	assert_true(piece->page_count <= PAGES_AHEAD_BYTES / PAGE_BYTES);
	for (size_t i = 0; i < piece->page_count; i++)
		assert_int_equal(bytes[i * PAGE_BYTES + i % PAGE_BYTES], (page + i) / (RUN_PAGES + 1) + 1);
}

static void test_pages_read_ahead_come_in_order_and_all(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;
	auto_pages_ahead struct pages_ahead *ahead = NULL;
	struct pages_piece piece = {.page_count = 1};
	uint64_t end = 0;
	size_t page_count = 0;

	(void)state;
	save_many(&dir);
	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	assert_ok(pages_ahead_start(reader, &ahead));
	while (piece.page_count > 0) {
		assert_ok(pages_ahead_next(ahead, &piece));
		assert_true(piece.page_count == 0 || piece.address >= end);
		assert_piece(&piece);
		end = piece.address + piece.page_count * PAGE_BYTES;
		page_count += piece.page_count;
	}
	assert_int_equal(page_count, MANY_PAGES / RUN_PAGES * RUN_PAGES);
	assert_ok(pages_ahead_next(ahead, &piece));
	assert_int_equal(piece.page_count, 0);
}

static void test_reading_ahead_may_be_given_up(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;
	struct pages_piece piece;

	(void)state;
	save_many(&dir);
	for (unsigned pieces = 0; pieces < 3; pieces++) {
		struct pages_ahead *ahead;

		pages_reader_free(take(reader));
		assert_ok(pages_reader_open(dir.fd, PID, &reader));
		assert_ok(pages_ahead_start(reader, &ahead));
		for (unsigned i = 0; i < pieces; i++)
			assert_ok(pages_ahead_next(ahead, &piece));
		pages_ahead_free(ahead);
	}
}

static void test_pages_cut_off_while_they_are_read_ahead_are_an_error(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	auto_pages_reader struct pages_reader *reader = NULL;
	auto_pages_ahead struct pages_ahead *ahead = NULL;
	struct pages_piece piece = {.page_count = 1};
	struct error *error = NULL;

	(void)state;
	save_many(&dir);
	assert_ok(pages_reader_open(dir.fd, PID, &reader));
	auto_fd int fd = openat(dir.fd, "pages-1.img", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)100 * PAGE_BYTES), 0);
	assert_ok(pages_ahead_start(reader, &ahead));
	while (!error && piece.page_count > 0)
		error = pages_ahead_next(ahead, &piece);
	assert_error(error, EBADMSG, "end");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_come_back),
		cmocka_unit_test(test_pages_wait_in_memory_where_there_is_room),
		cmocka_unit_test(test_neighbours_become_one_run),
		cmocka_unit_test(test_shared_memory_has_files_of_its_own),
		cmocka_unit_test(test_without_pages_no_file_of_them_is_needed),
		cmocka_unit_test(test_files_that_are_not_finished_are_gone),
		cmocka_unit_test(test_files_that_exist_are_an_error),
		cmocka_unit_test(test_pages_come_from_parents_of_parents),
		cmocka_unit_test(test_pages_that_no_parent_has_are_an_error),
		cmocka_unit_test(test_a_parent_that_is_not_needed_need_not_be_there),
		cmocka_unit_test(test_a_directory_that_is_its_own_ancestor_is_an_error),
		cmocka_unit_test(test_no_descriptors_stay_open),
		cmocka_unit_test(test_entries_that_make_no_sense_are_errors),
		cmocka_unit_test(test_pages_that_may_come_late_are_read_like_others),
		cmocka_unit_test(test_old_entries_without_flags_are_understood),
		cmocka_unit_test(test_a_pagemap_cut_off_anywhere_is_an_error),
		cmocka_unit_test(test_a_message_that_is_too_long_is_not_read),
		cmocka_unit_test(test_another_image_is_not_a_pagemap),
		cmocka_unit_test(test_pages_read_ahead_come_in_order_and_all),
		cmocka_unit_test(test_reading_ahead_may_be_given_up),
		cmocka_unit_test(test_pages_cut_off_while_they_are_read_ahead_are_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
