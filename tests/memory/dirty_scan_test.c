/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Areas of terabytes with almost nothing in them: what is there is found, with few calls. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/pages.h"
#include "lib/unit.h"
#include "memory/dirty_scan.h"

static const size_t reserved_bytes = (size_t)1 << 40;

/* A terabyte in pieces of 64 MB would be 16,384. */
enum { CALLS_MAX = 100 };

static unsigned char *reserve(void)
{
	unsigned char *area =
		mmap(NULL, reserved_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(area != MAP_FAILED);
	return area;
}

/* Adds what is there to ret_there, and returns how many calls that took. */
static unsigned scan(const unsigned char *area, struct ranges *ret_there)
{
	const struct look look = {.ret_there = ret_there};
	struct page_query query = {
		.start = (uintptr_t)area,
		.end = (uintptr_t)area + reserved_bytes,
		.any = UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED,
		.returned = UAPI_PAGE_IS_PRESENT,
	};
	auto_dirty_scan struct dirty_scan *scan = NULL;
	unsigned calls = 0;

	assert_ok(dirty_scan_open(getpid(), &scan));
	if (!scan->pages.has_ioctl)
		skip();
	for (; query.start < query.end; calls++)
		assert_int_equal(dirty_scan_piece(scan, &query, 0, &look), 0);
	return calls;
}

static void assert_range(const struct ranges *ranges, size_t number, const unsigned char *start, size_t page_count)
{
	if (!ranges->list || number >= ranges->count)
		abort();
	assert_int_equal(ranges->list[number].start, (uintptr_t)start);
	assert_int_equal(ranges->list[number].end, (uintptr_t)start + page_count * PAGE_BYTES);
}

static void test_emptiness_takes_few_calls(void **state)
{
	unsigned char *area = reserve();
	auto_ranges struct ranges there = {0};

	(void)state;
	assert_in_range(scan(area, &there), 1, CALLS_MAX);
	assert_int_equal(there.count, 0);
	munmap(area, reserved_bytes);
}

static void test_what_is_in_it_is_found(void **state)
{
	unsigned char *area = reserve();
	size_t second = reserved_bytes / 3 / PAGE_BYTES * PAGE_BYTES;
	auto_ranges struct ranges there = {0};

	(void)state;
	/* No huge page around it. */
	madvise(area, reserved_bytes, MADV_NOHUGEPAGE);
	memset(area, 1, (size_t)2 * PAGE_BYTES);
	area[second] = 1;
	area[reserved_bytes - 1] = 1;
	assert_in_range(scan(area, &there), 1, CALLS_MAX);
	assert_int_equal(there.count, 3);
	assert_range(&there, 0, area, 2);
	assert_range(&there, 1, area + second, 1);
	assert_range(&there, 2, area + reserved_bytes - PAGE_BYTES, 1);
	munmap(area, reserved_bytes);
}

/* The same by those that are not there. */
static void test_what_is_absent_is_left_out(void **state)
{
	unsigned char *area = reserve();
	auto_ranges struct ranges there = {0};
	struct area list = {.entry = {.start = (uintptr_t)area, .end = (uintptr_t)area + reserved_bytes}};

	(void)state;
	madvise(area, reserved_bytes, MADV_NOHUGEPAGE);
	area[reserved_bytes / 2] = 1;
	list.entry.status = AREA_REGULAR | AREA_ANON_PRIVATE;
	list.entry.flags = MAP_PRIVATE | MAP_ANONYMOUS;
	assert_ok(dirty_scan_there(getpid(), &(const struct areas){.list = &list, .count = 1}, &there));
	assert_int_equal(there.count, 1);
	assert_range(&there, 0, area + reserved_bytes / 2, 1);
	munmap(area, reserved_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_emptiness_takes_few_calls),
		cmocka_unit_test(test_what_is_in_it_is_found),
		cmocka_unit_test(test_what_is_absent_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
