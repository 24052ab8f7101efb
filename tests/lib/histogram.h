/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Durations by powers of two, and the longest with the moment at which it ended. For one thread. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <time.h>

struct histogram {
	uint64_t count;
	int64_t slowest_ns;
	int64_t slowest_at_ns; /* CLOCK_MONOTONIC */
	uint64_t below_us[32]; /* [i]: at least 2^(i-1) and less than 2^i microseconds */
};

static inline int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void histogram_add(struct histogram *histogram, int64_t duration_ns, int64_t at_ns)
{
	uint64_t us = duration_ns > 0 ? (uint64_t)duration_ns / 1000 : 0;
	int bits = us ? 64 - __builtin_clzll(us) : 0;

	histogram->count++;
	histogram->below_us[bits < 31 ? bits : 31]++;
	if (duration_ns > histogram->slowest_ns) {
		histogram->slowest_ns = duration_ns;
		histogram->slowest_at_ns = at_ns;
	}
}

/* The members of a JSON object, without its braces. */
static inline void histogram_json(const struct histogram *histogram, FILE *out)
{
	const char *comma = "";

	fprintf(out, "\"count\": %llu, \"slowest_us\": %lld, \"slowest_at_ms\": %lld, \"below_us\": {",
	        (unsigned long long)histogram->count, (long long)histogram->slowest_ns / 1000,
	        (long long)histogram->slowest_at_ns / 1000000);
	for (unsigned int i = 0; i < 32; i++) {
		if (!histogram->below_us[i])
			continue;
		fprintf(out, "%s\"%llu\": %llu", comma, 1ULL << i, (unsigned long long)histogram->below_us[i]);
		comma = ", ";
	}
	fprintf(out, "}");
}
