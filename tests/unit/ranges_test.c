/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "lib/unit.h"
#include "util/ranges.h"

static struct ranges make(size_t count, const struct range *list)
{
	struct ranges ranges = {0};

	for (size_t i = 0; i < count; i++)
		ranges_append(&ranges, list[i].start, list[i].end);
	return ranges;
}
#define RANGES(...) make(sizeof((struct range[]){__VA_ARGS__}) / sizeof(struct range), (struct range[]){__VA_ARGS__})

static void assert_ranges(const struct ranges *ranges, size_t count, const struct range *expected)
{
	assert_int_equal(ranges->count, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(ranges->list[i].start, expected[i].start);
		assert_int_equal(ranges->list[i].end, expected[i].end);
	}
}
#define ASSERT_RANGES(ranges, ...)                                                            \
	assert_ranges((ranges), sizeof((struct range[]){__VA_ARGS__}) / sizeof(struct range), \
	              (struct range[]){__VA_ARGS__})

static void test_ranges_that_touch_become_one(void **state)
{
	auto_ranges struct ranges ranges = RANGES({1, 3}, {3, 5}, {4, 4}, {4, 6}, {8, 9});

	(void)state;
	ASSERT_RANGES(&ranges, {1, 6}, {8, 9});
	assert_int_equal(ranges_bytes(&ranges), 6);
}

static void test_united_ranges_hold_what_either_held(void **state)
{
	auto_ranges struct ranges ranges = RANGES({1, 3}, {10, 20}, {40, 50});
	auto_ranges struct ranges other = RANGES({0, 1}, {5, 6}, {15, 45});

	(void)state;
	ranges_unite(&ranges, &other);
	ASSERT_RANGES(&ranges, {0, 3}, {5, 6}, {10, 50});
}

static void test_what_is_in_the_other_is_left_out(void **state)
{
	auto_ranges struct ranges ranges = RANGES({0, 10}, {20, 30}, {40, 50}, {60, 70});
	auto_ranges struct ranges other = RANGES({2, 3}, {5, 6}, {9, 25}, {28, 45}, {60, 70});
	auto_ranges struct ranges rest = ranges_without(&ranges, &other);

	(void)state;
	ASSERT_RANGES(&rest, {0, 2}, {3, 5}, {6, 9}, {25, 28}, {45, 50});
}

static void test_nothing_without_something_is_nothing(void **state)
{
	auto_ranges struct ranges ranges = {0};
	auto_ranges struct ranges other = RANGES({2, 3});
	auto_ranges struct ranges rest = ranges_without(&ranges, &other);

	(void)state;
	assert_int_equal(rest.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_that_touch_become_one),
		cmocka_unit_test(test_united_ranges_hold_what_either_held),
		cmocka_unit_test(test_what_is_in_the_other_is_left_out),
		cmocka_unit_test(test_nothing_without_something_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
