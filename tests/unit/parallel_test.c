/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdatomic.h>

#include "lib/unit.h"
#include "util/parallel.h"

enum { COUNT_MAX = 1000 };

static void count_up(void *context, size_t index)
{
	atomic_int *times = context;

	times[index]++;
}

static void check_each_once(size_t count)
{
	atomic_int times[COUNT_MAX] = {0};

	parallel_for(count, count_up, times);
	for (size_t i = 0; i < COUNT_MAX; i++)
		assert_int_equal(times[i], i < count);
}

static void test_each_is_done_once(void **state)
{
	(void)state;
	for (size_t count = 0; count <= COUNT_MAX; count += count < 100 ? 1 : 300)
		check_each_once(count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_is_done_once)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
