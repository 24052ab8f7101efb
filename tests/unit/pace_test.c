/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <string.h>

#include "lib/unit.h"
#include "migrate/pace.h"

static const uint64_t mb = 1000000;
static const uint64_t second_ns = 1000000000;

static const struct pace_limits limits = {.max_downtime_ms = 20, .max_freeze_ms = 2000, .max_rounds = 5};

static void do_round(struct pace *pace, uint64_t sent_bytes, uint64_t left_bytes)
{
	pace_round(pace, sent_bytes, second_ns);
	pace_predict(pace, left_bytes);
}

static void test_rounds_end_when_the_pause_is_short_enough(void **state)
{
	struct pace pace = {0};

	(void)state;
	assert_true(pace_wants_round(&pace, &limits));
	do_round(&pace, 100 * mb, 10 * mb);
	assert_true(pace_wants_round(&pace, &limits));
	do_round(&pace, 10 * mb, 0);
	assert_false(pace_wants_round(&pace, &limits));
	assert_ok(pace_check(&pace, &limits));
}

static void test_rounds_end_when_they_gain_nothing(void **state)
{
	struct pace pace = {0};

	(void)state;
	do_round(&pace, 100 * mb, 50 * mb);
	assert_true(pace_wants_round(&pace, &limits));
	do_round(&pace, 100 * mb, 49 * mb);
	assert_false(pace_wants_round(&pace, &limits));
	assert_ok(pace_check(&pace, &limits));
}

static void test_a_pause_longer_than_allowed_is_no_reason_to_stop(void **state)
{
	struct pace pace = {0};

	(void)state;
	for (unsigned round = 0; round < limits.max_rounds; round++) {
		assert_true(pace_wants_round(&pace, &limits));
		do_round(&pace, 100 * mb, 300 * mb);
	}
	assert_false(pace_wants_round(&pace, &limits));
	assert_error(pace_check(&pace, &limits), 0, "for about 3.0 s, and may for 2.0 s");
}

static void test_a_short_round_says_nothing_about_the_link(void **state)
{
	struct pace pace = {0};

	(void)state;
	do_round(&pace, 100 * mb, 100 * mb);
	uint64_t bytes_per_second = pace.bytes_per_second;
	do_round(&pace, 1000, 100 * mb);
	assert_int_equal(pace.bytes_per_second, bytes_per_second);
}

static void test_without_rounds_nothing_is_known(void **state)
{
	const struct pace_limits none = {.max_freeze_ms = 1};
	struct pace pace = {0};

	(void)state;
	assert_false(pace_wants_round(&pace, &none));
	assert_ok(pace_check(&pace, &none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounds_end_when_the_pause_is_short_enough),
		cmocka_unit_test(test_rounds_end_when_they_gain_nothing),
		cmocka_unit_test(test_a_pause_longer_than_allowed_is_no_reason_to_stop),
		cmocka_unit_test(test_a_short_round_says_nothing_about_the_link),
		cmocka_unit_test(test_without_rounds_nothing_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
