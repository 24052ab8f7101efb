/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The areas of a process that has one of each kind. */

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib/tempdir.h"
#include "lib/unit.h"
#include "memory/areas.h"
#include "memory/maps.h"
#include "memory/subject.h"
#include "util/problems.h"
#include "util/uapi.h"

enum { PAGE = 4096 };

/* ---- Lines ---- */

static void test_a_line_of_maps_is_read(void **state)
{
	struct area area;

	(void)state;
	assert_int_equal(maps_parse_line("7ffff7dd5000-7ffff7dd7000 rw-s 0001b000 fe:02 1235 /a b (deleted)", &area),
	                 0);
	assert_int_equal(area.entry.start, 0x7ffff7dd5000);
	assert_int_equal(area.entry.end, 0x7ffff7dd7000);
	assert_int_equal(area.entry.prot, PROT_READ | PROT_WRITE);
	assert_int_equal(area.entry.flags, MAP_SHARED);
	assert_int_equal(area.entry.pgoff, 0x1b000);
	assert_int_equal(area.device, 0xfe02);
	assert_int_equal(area.inode, 1235);
	assert_string_equal(area.path, "/a b (deleted)");
	free(area.path);
}

static void test_what_is_no_line_of_maps_is_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"x",
		"1000-",
		"2000-1000 rw-p 0 0:0 0",
		"1000-2000 rw",
		"1000-2000 rw-p 0 0:0 ",
		"10000000000000000-20000000000000000 rw-p 0 0:0 0",
		"1000-2000 rw-p 0 100000000:0 0",
	};
	struct area area;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(maps_parse_line(lines[i], &area), -EINVAL);
}

static void test_flags_of_smaps_become_flags_advice_and_trouble(void **state)
{
	struct area area = {0};

	(void)state;
	smaps_parse_attribute("KernelPageSize:     2048 kB", &area);
	smaps_parse_attribute("VmFlags: rd wr mr mw lo lf gd nr ht dc dd ", &area);
	assert_int_equal(area.entry.flags,
	                 MAP_LOCKED | MAP_NONBLOCK | MAP_GROWSDOWN | MAP_NORESERVE | MAP_HUGETLB | 21U << 26);
	assert_int_equal(area.entry.madv, 1 << MADV_DONTFORK | 1 << MADV_DONTDUMP);
	assert_true(area.may_write);
	assert_int_equal(area.trouble, AREA_TROUBLE_NONE);
	smaps_parse_attribute("VmFlags: rd io", &area);
	assert_int_equal(area.trouble, AREA_TROUBLE_DEVICE);
}

static void test_memory_with_a_protection_key_is_told(void **state)
{
	struct area with_key = {.entry.prot = PROT_READ | PROT_WRITE};
	struct area without = with_key;
	struct area executed = {.entry.prot = PROT_EXEC};

	(void)state;
	smaps_parse_attribute("ProtectionKey:         3", &with_key);
	smaps_parse_attribute("VmFlags: rd wr mr mw me", &with_key);
	smaps_parse_attribute("ProtectionKey:         0", &without);
	smaps_parse_attribute("ProtectionKey:         1", &executed);
	assert_int_equal(with_key.trouble, AREA_TROUBLE_KEY);
	assert_int_equal(without.trouble, AREA_TROUBLE_NONE);
	assert_int_equal(executed.trouble, AREA_TROUBLE_NONE);
}

/* ---- A process ---- */

struct places {
	uint64_t anonymous, locked, stack_like, advised, no_reserve, shared, memfd, private_memfd, zero, shared_zero;
	uint64_t file_private, file_shared, file_read_only, deleted, odd_name, guard, nothing, grown;
	char dir[64];
};

static uint64_t map(size_t pages, int prot, int flags, int fd)
{
	void *at = mmap(NULL, pages * PAGE, prot, flags, fd, 0);

	/* One page is left out between areas, so that they don't merge. */
	return at == MAP_FAILED ? 0 : (uint64_t)at;
}

static int make_file(const struct places *places, const char *name)
{
	auto_free char *path = xformat("%s/%s", places->dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, 16L * PAGE) < 0)
		abort();
	return fd;
}

static void *as_pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static void map_files(struct places *places)
{
	int fd = make_file(places, "file");

	places->file_private = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	places->file_shared = map(4, PROT_READ, MAP_SHARED, fd);
	auto_free char *path = xformat("%s/file", places->dir);
	places->file_read_only = map(4, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_CLOEXEC));
	places->deleted = map(4, PROT_READ, MAP_PRIVATE, make_file(places, "gone"));
	auto_free char *gone = xformat("%s/gone", places->dir);
	unlink(gone);
	places->odd_name = map(4, PROT_READ, MAP_PRIVATE, make_file(places, "odd\nname (deleted)"));
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	places->zero = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero);
	places->shared_zero = map(4, PROT_READ | PROT_WRITE, MAP_SHARED, zero);
	int memfd = memfd_create("mine", MFD_CLOEXEC);
	if (ftruncate(memfd, 16L * PAGE) < 0)
		abort();
	places->memfd = map(4, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
	places->private_memfd = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd);
}

static void map_anonymous(struct places *places)
{
	const int private_anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

	places->anonymous = map(4, PROT_READ | PROT_WRITE, private_anonymous, -1);
	places->nothing = map(4, PROT_NONE, private_anonymous, -1);
	places->locked = map(4, PROT_READ, private_anonymous | MAP_LOCKED, -1);
	places->no_reserve = map(4, PROT_READ | PROT_EXEC, private_anonymous | MAP_NORESERVE, -1);
	places->stack_like = map(4, PROT_READ | PROT_WRITE, private_anonymous | MAP_GROWSDOWN, -1);
	places->advised = map(4, PROT_WRITE, private_anonymous, -1);
	madvise(as_pointer(places->advised), 4L * PAGE, MADV_DONTFORK);
	madvise(as_pointer(places->advised), 4L * PAGE, MADV_WIPEONFORK);
	places->shared = map(4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	places->guard = map(8, PROT_READ | PROT_WRITE | PROT_EXEC, private_anonymous, -1);
	madvise(as_pointer(places->guard + 2L * PAGE), 2L * PAGE, UAPI_MADV_GUARD_INSTALL);
}

static uint64_t one_of_each(unsigned step, void *shared)
{
	struct places *places = shared;

	switch (step) {
	case 0:
		map_files(places);
		map_anonymous(places);
		return 0;
	case 1: /* after areas_read(): the same area is longer, and there is a new one */
		if (mremap(as_pointer(places->advised), 4L * PAGE, 6L * PAGE, MREMAP_MAYMOVE) == MAP_FAILED)
			abort();
		places->grown = map(5, PROT_READ | PROT_EXEC | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		madvise(as_pointer(places->grown), 5L * PAGE, MADV_DONTDUMP);
		return 0;
	default: {
		unsigned long ring = 0;
		return syscall(SYS_io_setup, 1, &ring) == 0 ? 0 : 1;
	}
	}
}

static const struct area *at(const struct areas *areas, uint64_t address)
{
	const struct area *area = areas_find(areas, address);

	assert_non_null(area);
	return area;
}

static void check(const struct areas *areas, uint64_t address, uint32_t prot, uint32_t flags, uint32_t status)
{
	const VmaEntry *entry = &at(areas, address)->entry;

	assert_int_equal(entry->prot, prot);
	assert_int_equal(entry->flags, flags);
	assert_int_equal(entry->status, status);
}

static void check_all(const struct areas *areas, const struct places *places)
{
	const uint32_t private_anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	const uint32_t regular = AREA_REGULAR | AREA_ANON_PRIVATE;
	const uint32_t rw = PROT_READ | PROT_WRITE;

	check(areas, places->anonymous, rw, private_anonymous, regular);
	check(areas, places->nothing, PROT_NONE, private_anonymous, regular);
	check(areas, places->locked, PROT_READ, private_anonymous | MAP_LOCKED, regular);
	check(areas, places->no_reserve, PROT_READ | PROT_EXEC, private_anonymous | MAP_NORESERVE, regular);
	check(areas, places->stack_like, rw, private_anonymous | MAP_GROWSDOWN, regular);
	check(areas, places->advised, PROT_WRITE, private_anonymous, regular);
	assert_int_equal(at(areas, places->advised)->entry.madv, 1 << MADV_DONTFORK | 1 << MADV_WIPEONFORK);
	check(areas, places->shared, rw, MAP_SHARED | MAP_ANONYMOUS, AREA_REGULAR | AREA_ANON_SHARED);
	check(areas, places->memfd, rw, MAP_SHARED, AREA_REGULAR | AREA_MEMFD | AREA_FILE_SHARED);
	assert_string_equal(at(areas, places->memfd)->path, "/memfd:mine");
	check(areas, places->private_memfd, rw, MAP_PRIVATE, AREA_REGULAR | AREA_MEMFD | AREA_FILE_PRIVATE);
	check(areas, places->zero, rw, private_anonymous, regular);
	check(areas, places->shared_zero, rw, MAP_SHARED | MAP_ANONYMOUS, AREA_REGULAR | AREA_ANON_SHARED);
	check(areas, places->file_private, rw, MAP_PRIVATE, AREA_REGULAR | AREA_FILE_PRIVATE);
	check(areas, places->file_shared, PROT_READ, MAP_SHARED, AREA_REGULAR | AREA_FILE_SHARED);
	assert_int_equal(at(areas, places->file_shared)->entry.fdflags, O_RDWR);
	assert_int_equal(at(areas, places->file_read_only)->entry.fdflags, O_RDONLY);
	assert_false(at(areas, places->file_shared)->is_deleted);
	assert_true(at(areas, places->deleted)->is_deleted);
	assert_string_equal(strrchr(at(areas, places->deleted)->path, '/'), "/gone");
	assert_false(at(areas, places->odd_name)->is_deleted);
	assert_string_equal(strrchr(at(areas, places->odd_name)->path, '/'), "/odd\nname (deleted)");
	assert_int_equal(at(areas, places->guard)->entry.end, places->guard + 2UL * PAGE);
	check(areas, places->guard + 2UL * PAGE, rw | PROT_EXEC, private_anonymous, regular | AREA_GUARD);
	assert_int_equal(at(areas, places->guard + 2UL * PAGE)->entry.end, places->guard + 4UL * PAGE);
	check(areas, places->guard + 4UL * PAGE, rw | PROT_EXEC, private_anonymous, regular);
}

static void check_special(const struct areas *areas)
{
	uint32_t seen = 0;

	for (size_t i = 0; i < areas->count; i++) {
		seen |= areas->list[i].entry.status;
		if (areas->list[i].entry.status & AREA_STACK)
			assert_int_equal(areas->list[i].entry.flags, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN);
	}
	assert_true(seen & AREA_VDSO);
	assert_true(seen & AREA_VVAR);
	assert_true(seen & AREA_STACK);
	assert_true(seen & AREA_HEAP);
}

static struct places *share_places(const struct tempdir *dir)
{
	struct places *places = mmap(NULL, sizeof(*places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(places, MAP_FAILED);
	snprintf(places->dir, sizeof(places->dir), "%s", dir->path);
	return places;
}

static void test_each_kind_of_area_is_told_by_both_ways_of_reading(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct places *places = share_places(&dir);
	auto_test_subject struct test_subject subject = subject_start(one_of_each, places);
	auto_areas struct areas areas = {0};
	auto_areas struct areas again = {0};

	(void)state;
	subject_do(&subject, 0);
	assert_ok(areas_read(subject.pid, &areas));
	check_all(&areas, places);
	check_special(&areas);

	subject_do(&subject, 1);
	assert_ok(areas_refresh(subject.pid, &areas, NULL, 0, &again));
	check_all(&again, places);
	check_special(&again);
	assert_int_equal(at(&again, places->grown)->entry.madv, 1 << MADV_DONTDUMP);
	munmap(places, sizeof(*places));
}

static void test_memory_that_cannot_be_carried_is_named(void **state)
{
	auto_tempdir struct tempdir dir = tempdir_new();
	struct places *places = share_places(&dir);
	auto_test_subject struct test_subject subject = subject_start(one_of_each, places);
	auto_areas struct areas areas = {0};
	auto_problems struct problems problems = {0};

	(void)state;
	subject_do(&subject, 2);
	assert_ok(areas_read(subject.pid, &areas));
	areas_check(&areas, &problems);
	auto_error struct error *error = problems_error(&problems, "not carried:");
	assert_non_null(error);
	auto_free char *line = error_line(error);
	assert_non_null(strstr(line, "a ring of io_setup(2)"));
	munmap(places, sizeof(*places));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_of_maps_is_read),
		cmocka_unit_test(test_what_is_no_line_of_maps_is_refused),
		cmocka_unit_test(test_flags_of_smaps_become_flags_advice_and_trouble),
		cmocka_unit_test(test_memory_with_a_protection_key_is_told),
		cmocka_unit_test(test_each_kind_of_area_is_told_by_both_ways_of_reading),
		cmocka_unit_test(test_memory_that_cannot_be_carried_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
