/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A store of images, its way to a directory and back, and what images from outside may not do to it. */

#include <endian.h>
#include <errno.h>
#include <sys/stat.h>

#include "fs.pb-c.h"
#include "image/kinds.h"
#include "image/samples.h"
#include "lib/tempdir.h"
#include "lib/unit.h"
#include "util/alloc.h"

/* ---- Helpers ---- */

static struct image_store *store_of_all_kinds(void)
{
	struct image_store *store = image_store_new();

	for (enum image_kind kind = 0; kind < IMAGE_KIND_COUNT; kind++)
		sample_put(store, kind);
	return store;
}

/* The message type's own packed bytes, to compare with. */
static void assert_same_message(const ProtobufCMessage *message, const ProtobufCMessageDescriptor *type)
{
	ProtobufCMessage *sample = sample_message(type);
	size_t size_bytes = protobuf_c_message_get_packed_size(sample);

	assert_int_equal(protobuf_c_message_get_packed_size(message), size_bytes);
	auto_free uint8_t *expected = xalloc(size_bytes);
	auto_free uint8_t *packed = xalloc(size_bytes);
	protobuf_c_message_pack(sample, expected);
	protobuf_c_message_pack(message, packed);
	assert_memory_equal(packed, expected, size_bytes);
	protobuf_c_message_free_unpacked(sample, NULL);
}

static void assert_raw(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index)
{
	const uint8_t *bytes;
	size_t size_bytes;

	image_get_bytes(store, kind, id, index, &bytes, &size_bytes);
	assert_int_equal(size_bytes, SAMPLE_RAW_BYTES);
	for (size_t i = 0; i < size_bytes; i++)
		assert_int_equal(bytes[i], 0xa5);
}

/* An image from outside: bytes behind the magics. */
static struct error *add(struct image_store *store, enum image_kind kind, const void *bytes, size_t size_bytes)
{
	const struct image_file file = {
		.kind = kind,
		.id = kind < IMAGE_KIND_COUNT && image_has_id(kind),
		.bytes = bytes,
		.size_bytes = size_bytes,
	};

	return image_store_add(store, &file);
}

/* ---- There and back ---- */

static void test_names_are_those_of_criu_and_one_for_each_image(void **state)
{
	static const struct {
		const char *name;
		bool is_image;
		enum image_kind kind;
		uint64_t id;
	} examples[] = {
		{"inventory.img", true, IMAGE_INVENTORY, 0},
		{"core-1.img", true, IMAGE_CORE, 1},
		{"core-4294967295.img", true, IMAGE_CORE, UINT32_MAX},
		{"core-18446744073709551615.img", true, IMAGE_CORE, UINT64_MAX},
		{"core-18446744073709551616.img", false, 0, 0},
		{"core-01.img", false, 0, 0},
		{"core--1.img", false, 0, 0},
		{"core- 1.img", false, 0, 0},
		{"core-+1.img", false, 0, 0},
		{"core-.img", false, 0, 0},
		{"core-1.img.old", false, 0, 0},
		{"core-1", false, 0, 0},
		{"core", false, 0, 0},
		{"tcp-stream-1f.img", true, IMAGE_TCP_STREAM, 0x1f},
		{"tcp-stream-1F.img", false, 0, 0},
		{"tcp-stream-0x1f.img", false, 0, 0},
		{"ghost-file-10.img", true, IMAGE_GHOST_FILE, 0x10},
		{"stats-dump", true, IMAGE_STATS_DUMP, 0},
		{"pages-1.img", false, 0, 0},
		{"", false, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		enum image_kind kind = 0;
		uint64_t id = 0;

		assert_int_equal(image_of_file_name(examples[i].name, &kind, &id), examples[i].is_image);
		assert_int_equal(kind, examples[i].kind);
		assert_int_equal(id, examples[i].id);
	}
}

/* Checks that all samples of that kind are in the store, whole. */
static void check_samples(const struct image_store *store, enum image_kind kind)
{
	const uint64_t id = sample_id(kind);

	assert_true(image_count(store, kind, id) > 0);
	for (size_t i = 0; i < image_count(store, kind, id); i++) {
		ProtobufCMessage *message = NULL;

		assert_ok(image_get(store, kind, id, i, &message));
		if (image_raw_bytes(kind, message) == 0)
			assert_same_message(message, image_message(kind, i));
		else
			assert_raw(store, kind, id, i);
		protobuf_c_message_free_unpacked(message, NULL);
	}
}

static void test_every_kind_comes_back_from_a_directory(void **state)
{
	auto_image_store struct image_store *store = store_of_all_kinds();
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();

	(void)state;
	assert_ok(image_store_write(store, dir.fd));
	assert_int_equal(tempdir_count(&dir), IMAGE_KIND_COUNT + 2); /* two of deleted files; checksums */
	assert_ok(image_store_read(dir.fd, &back));
	for (enum image_kind kind = 0; kind < IMAGE_KIND_COUNT; kind++) {
		check_samples(store, kind);
		if (!image_is_service(kind))
			check_samples(back, kind);
	}
}

static void test_a_deleted_files_chunks_come_back(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_image_store struct image_store *back = image_store_new();
	struct image_file file;
	const uint8_t *bytes;
	size_t size_bytes;

	(void)state;
	sample_put(store, IMAGE_GHOST_FILE);
	for (size_t n = 0; image_store_file(store, n, &file); n++)
		assert_ok(image_store_add(back, &file));
	assert_int_equal(image_count(back, IMAGE_GHOST_FILE, SAMPLE_ID), 1);
	assert_raw(back, IMAGE_GHOST_FILE, SAMPLE_ID, 0);
	assert_int_equal(image_count(back, IMAGE_GHOST_FILE, SAMPLE_CHUNKED_ID), SAMPLE_MESSAGES);
	image_get_bytes(back, IMAGE_GHOST_FILE, SAMPLE_CHUNKED_ID, 0, &bytes, &size_bytes);
	assert_int_equal(size_bytes, 0);
	assert_raw(back, IMAGE_GHOST_FILE, SAMPLE_CHUNKED_ID, 1);
	assert_raw(back, IMAGE_GHOST_FILE, SAMPLE_CHUNKED_ID, 2);
}

static void test_what_is_not_there_is_named(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	ProtobufCMessage *message;
	const uint8_t *bytes;
	size_t size_bytes;

	(void)state;
	sample_put(store, IMAGE_FS);
	assert_error(image_get(store, IMAGE_MM, 77, 0, &message), ENOENT, "mm-77.img");
	assert_error(image_get(store, IMAGE_FS, SAMPLE_ID, 3, &message), ENOENT, "fs-4660.img: message 3 of 3");
	assert_int_equal(image_count(store, IMAGE_MM, 77), 0);
	image_get_bytes(store, IMAGE_MM, 77, 0, &bytes, &size_bytes);
	assert_int_equal(size_bytes, 0);
}

static void test_many_images_keep_their_order_and_are_found(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	const FsEntry fs = FS_ENTRY__INIT;
	struct image_file file;

	(void)state;
	for (uint64_t n = 0; n < 1000; n++)
		image_put(store, IMAGE_FS, n * 7919 % 1000, &fs.base);
	for (uint64_t n = 0; n < 1000; n++) {
		assert_true(image_store_file(store, n, &file));
		assert_int_equal(file.id, n * 7919 % 1000);
		assert_int_equal(image_count(store, IMAGE_FS, n), 1);
	}
	assert_false(image_store_file(store, 1000, &file));
}

/* ---- Directories ---- */

static void test_an_image_that_exists_is_an_error_and_nothing_stays(void **state)
{
	auto_image_store struct image_store *store = store_of_all_kinds();
	auto_tempdir struct tempdir dir = tempdir_new();

	(void)state;
	tempdir_put(&dir, "timens-4660.img", "old", 3);
	assert_error(image_store_write(store, dir.fd), EEXIST, "timens-4660.img");
	assert_int_equal(tempdir_count(&dir), 1);
	assert_int_equal(faccessat(dir.fd, "timens-4660.img", F_OK, 0), 0);
}

static void test_a_link_is_not_followed(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();

	(void)state;
	sample_put(store, IMAGE_PSTREE);
	assert_int_equal(symlinkat("elsewhere", dir.fd, "pstree.img"), 0);
	assert_error(image_store_write(store, dir.fd), EEXIST, "pstree.img");
	assert_error(image_store_read(dir.fd, &back), ELOOP, "pstree.img");
}

static void test_a_fifo_is_not_an_image(void **state)
{
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();

	(void)state;
	assert_int_equal(mkfifoat(dir.fd, "pstree.img", 0600), 0);
	assert_error(image_store_read(dir.fd, &back), EBADMSG, "pstree.img: not a regular file");
}

static void test_new_statistics_replace_the_old_ones(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();
	struct image_file file;
	uint8_t words[8];

	(void)state;
	sample_put(store, IMAGE_STATS_DUMP);
	tempdir_put(&dir, "stats-dump", "old", 3);
	assert_ok(image_store_write(store, dir.fd));
	auto_fd int fd = openat(dir.fd, "stats-dump", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, words, sizeof(words)), sizeof(words));
	assert_memory_equal(words, "\x40\x59\x10\x55\x06\x33\x09\x57", sizeof(words));
	assert_ok(image_store_read(dir.fd, &back));
	assert_false(image_store_file(back, 0, &file));
}

static void test_other_files_are_left_alone(void **state)
{
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();
	struct image_file file;

	(void)state;
	tempdir_put(&dir, "pages-1.img", "whatever", 8);
	tempdir_put(&dir, "core-01.img", "whatever", 8);
	tempdir_put(&dir, "dump.log", "whatever", 8);
	assert_ok(image_store_read(dir.fd, &back));
	assert_false(image_store_file(back, 0, &file));
}

static void test_a_wrong_magic_is_named(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t size_bytes;
		const char *words;
	} examples[] = {
		{"inventory.img", "\x19\x43\x56\x54\x16\x31\x31\x58", 8, "begins with 0x54564319 where 0x58313116"},
		{"pstree.img", "\x30\x30\x27\x50\x30\x30\x27\x50", 8, "begins with 0x50273030 where 0x54564319"},
		{"pstree.img", "\x19\x43\x56\x54\x47\x38\x05\x55", 8, "begins with 0x55053847 where 0x50273030"},
		{"pstree.img", "\x19\x43\x56\x54\x30\x30\x27", 7, "cut off in its magic"},
		{"pstree.img", "", 0, "cut off in its magic"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		auto_image_store struct image_store *back = NULL;
		auto_tempdir struct tempdir dir = tempdir_new();

		tempdir_put(&dir, examples[i].name, examples[i].bytes, examples[i].size_bytes);
		assert_error(image_store_read(dir.fd, &back), EBADMSG, examples[i].words);
	}
}

static void test_a_file_too_large_is_refused_before_it_is_read(void **state)
{
	auto_image_store struct image_store *back = NULL;
	auto_tempdir struct tempdir dir = tempdir_new();

	(void)state;
	auto_fd int fd = openat(dir.fd, "pstree.img", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
	assert_error(image_store_read(dir.fd, &back), E2BIG, "pstree.img: has 1099511627776 bytes");
}

/* ---- Bytes from outside ---- */

static void test_images_cut_off_anywhere_are_errors(void **state)
{
	auto_image_store struct image_store *store = image_store_new();
	struct image_file file;

	(void)state;
	sample_put(store, IMAGE_TCP_STREAM);
	assert_true(image_store_file(store, 0, &file));
	size_t one_message = file.size_bytes / SAMPLE_MESSAGES;
	for (size_t size_bytes = 0; size_bytes <= one_message; size_bytes += size_bytes < 200 ? 1 : 100) {
		auto_image_store struct image_store *back = image_store_new();
		auto_error struct error *error = add(back, IMAGE_TCP_STREAM, file.bytes, size_bytes);
		bool is_whole = size_bytes % one_message == 0;

		assert_int_equal(error == NULL, is_whole);
	}
}

static void test_lengths_beyond_the_image_are_errors(void **state)
{
	auto_image_store struct image_store *store = image_store_new();

	(void)state;
	assert_error(add(store, IMAGE_FS, "\xff\xff\xff\xff", 4), E2BIG, "fs-1.img: message 0: has 4294967295 bytes");
	assert_error(add(store, IMAGE_FS, "\x02\0\0\0x", 5), EBADMSG, "has 2 bytes, but only 1 are there");
	assert_error(add(store, IMAGE_FS, "\x02\0\0", 3), EBADMSG, "cut off in its length");
	assert_error(add(store, IMAGE_FS, "\x02\0\0\0\xff\xff", 6), EBADMSG, "not a fs_entry");
	assert_error(add(store, IMAGE_FS, "\0\0\0\0", 4), EBADMSG, "not a fs_entry"); /* required fields are missing */
	assert_int_equal(image_count(store, IMAGE_FS, 1), 0);
}

static void test_raw_bytes_that_are_not_there_are_an_error(void **state)
{
	static const uint8_t ten_bytes[] = {4, 0, 0, 0, 0x08, 1, 0x10, 10, 'r', 'a', 'w'};
	auto_image_store struct image_store *store = image_store_new();

	(void)state;
	assert_error(add(store, IMAGE_PIPES_DATA, ten_bytes, sizeof(ten_bytes)), EBADMSG,
	             "pipes-data.img: message 0: tells of 10 bytes behind it, but only 3 are there");
}

static void test_the_same_image_twice_is_an_error(void **state)
{
	static const uint8_t fs[] = {4, 0, 0, 0, 0x08, 1, 0x10, 2};
	auto_image_store struct image_store *store = image_store_new();

	(void)state;
	assert_ok(add(store, IMAGE_FS, fs, sizeof(fs)));
	assert_error(add(store, IMAGE_FS, fs, sizeof(fs)), EEXIST, "fs-1.img: is there twice");
	assert_error(add(store, IMAGE_KIND_COUNT, fs, sizeof(fs)), EBADMSG, "unknown kind");
	assert_error(image_store_add(store, &(struct image_file){.kind = IMAGE_PSTREE, .id = 1}), EBADMSG,
	             "pstree.img: has id 0x1");
}

/* Two bytes for each field that we don't know make protobuf-c allocate dozens. */
static void test_a_message_that_swells_when_unpacked_is_refused(void **state)
{
	const size_t size_bytes = (size_t)16 << 20;
	auto_image_store struct image_store *store = image_store_new();
	auto_free uint8_t *bytes = xalloc(sizeof(uint32_t) + size_bytes);
	uint32_t length = htole32((uint32_t)size_bytes);

	(void)state;
	memcpy(bytes, &length, sizeof(length));
	for (size_t i = 0; i < size_bytes; i += 2)
		bytes[sizeof(length) + i] = 0x78; /* field 15, a number; the next byte is that number: 0 */
	assert_error(add(store, IMAGE_SECCOMP, bytes, sizeof(length) + size_bytes), EBADMSG, "not a seccomp_entry");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_those_of_criu_and_one_for_each_image),
		cmocka_unit_test(test_every_kind_comes_back_from_a_directory),
		cmocka_unit_test(test_a_deleted_files_chunks_come_back),
		cmocka_unit_test(test_what_is_not_there_is_named),
		cmocka_unit_test(test_many_images_keep_their_order_and_are_found),
		cmocka_unit_test(test_an_image_that_exists_is_an_error_and_nothing_stays),
		cmocka_unit_test(test_a_link_is_not_followed),
		cmocka_unit_test(test_a_fifo_is_not_an_image),
		cmocka_unit_test(test_new_statistics_replace_the_old_ones),
		cmocka_unit_test(test_other_files_are_left_alone),
		cmocka_unit_test(test_a_wrong_magic_is_named),
		cmocka_unit_test(test_a_file_too_large_is_refused_before_it_is_read),
		cmocka_unit_test(test_images_cut_off_anywhere_are_errors),
		cmocka_unit_test(test_lengths_beyond_the_image_are_errors),
		cmocka_unit_test(test_raw_bytes_that_are_not_there_are_an_error),
		cmocka_unit_test(test_the_same_image_twice_is_an_error),
		cmocka_unit_test(test_a_message_that_swells_when_unpacked_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
