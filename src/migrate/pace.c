/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "migrate/pace.h"

enum {
	FIXED_PAUSE_NS = 8 * 1000 * 1000, /* what a freeze takes without any pages */
	LEAST_RATE = 1 << 20,
	NS_PER_MS = 1000 * 1000,
};

void pace_round(struct pace *pace, uint64_t bytes, uint64_t took_ns)
{
	/* A short round says little about the link. */
	if (pace->rounds == 0 || bytes > LEAST_RATE)
		pace->bytes_per_second = bytes * 1000000000 / (took_ns + 1) + LEAST_RATE;
	pace->rounds++;
}

void pace_predict(struct pace *pace, uint64_t left_bytes)
{
	pace->former_ns = pace->predicted_ns;
	pace->predicted_ns = FIXED_PAUSE_NS + left_bytes * 1000000000 / pace->bytes_per_second;
}

static bool is_too_long(const struct pace *pace, const struct pace_limits *limits)
{
	return pace->predicted_ns > (uint64_t)limits->max_freeze_ms * NS_PER_MS;
}

/* The pause may be as long as it would be by now, and another round would take off little of it. */
static bool is_short_enough(const struct pace *pace, const struct pace_limits *limits)
{
	return pace->predicted_ns <= (uint64_t)limits->max_downtime_ms * NS_PER_MS &&
	       pace->predicted_ns <= FIXED_PAUSE_NS + FIXED_PAUSE_NS / 4;
}

bool pace_wants_round(const struct pace *pace, const struct pace_limits *limits)
{
	if (pace->rounds >= limits->max_rounds)
		return false;
	if (pace->rounds == 0)
		return true;
	if (is_short_enough(pace, limits))
		return false;
	bool is_shorter = pace->former_ns == 0 || pace->predicted_ns <= pace->former_ns / 10 * 9;
	return is_shorter || is_too_long(pace, limits);
}

struct error *pace_check(const struct pace *pace, const struct pace_limits *limits)
{
	if (!is_too_long(pace, limits))
		return NULL;
	return error_hint(
		error_new(0,
	                  "it writes memory faster than that can be sent: after %u rounds it would have to stand "
	                  "still for about %.1f s, and may for %.1f s",
	                  pace->rounds, (double)pace->predicted_ns / 1e9, limits->max_freeze_ms / 1e3),
		"--max-freeze MS lets it stand still for longer, --max-rounds N sends more rounds; or move it "
		"when it does less, or over a faster link");
}
