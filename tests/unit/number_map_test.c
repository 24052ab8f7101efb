/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "lib/unit.h"
#include "util/number_map.h"

static void test_what_was_put_in_is_found(void **state)
{
	(void)state;
	auto_number_map struct number_map *map = number_map_new();
	uint64_t value = 0;

	for (uint64_t i = 0; i < 1000; i++)
		assert_true(number_map_add(map, i * 7919 % 1000, i << 40, i));
	for (uint64_t i = 0; i < 1000; i++) {
		assert_true(number_map_find(map, i * 7919 % 1000, i << 40, &value));
		assert_int_equal(value, i);
	}
	assert_false(number_map_find(map, 0, 1, &value));
}

static void test_the_first_one_stays(void **state)
{
	(void)state;
	auto_number_map struct number_map *map = number_map_new();
	uint64_t value = 0;

	assert_true(number_map_add(map, 1, 2, 3));
	assert_false(number_map_add(map, 1, 2, 4));
	assert_true(number_map_add(map, 2, 1, 5));
	assert_true(number_map_find(map, 1, 2, &value));
	assert_int_equal(value, 3);
}

static void test_what_was_taken_out_is_gone(void **state)
{
	(void)state;
	auto_number_map struct number_map *map = number_map_new();
	uint64_t value = 0;

	number_map_add(map, 1, 2, 3);
	number_map_add(map, 1, 3, 4);
	assert_true(number_map_remove(map, 1, 2, &value));
	assert_int_equal(value, 3);
	assert_false(number_map_remove(map, 1, 2, &value));
	assert_true(number_map_pop(map, &value));
	assert_int_equal(value, 4);
	assert_false(number_map_pop(map, &value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_put_in_is_found),
		cmocka_unit_test(test_the_first_one_stays),
		cmocka_unit_test(test_what_was_taken_out_is_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
