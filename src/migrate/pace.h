/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How fast memory goes over, how long the program would stand still for what is left, and so: whether another round,
 * while it runs, is worth it.
 *
 * A program whose pause would be longer than it may be is not stopped for nothing: more rounds, then an error.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

struct pace_limits {
	unsigned max_downtime_ms, max_freeze_ms, max_rounds;
};

/* Starts as all zeros. */
struct pace {
	uint64_t bytes_per_second; /* of the last round that says something about the link */
	uint64_t predicted_ns;     /* the pause, if the program were stopped now; 0: not known */
	uint64_t former_ns;        /* the same, a round earlier */
	unsigned rounds;
};

/* A round has ended. */
void pace_round(struct pace *pace, uint64_t bytes, uint64_t took_ns);

/* So much has been written since then. */
void pace_predict(struct pace *pace, uint64_t left_bytes);

/* Until the pause would be short enough, or doesn't become shorter any more. */
bool pace_wants_round(const struct pace *pace, const struct pace_limits *limits);

/* Whether what is left goes over in the time for which the program may stand still, as far as that is known. */
MUST_USE struct error *pace_check(const struct pace *pace, const struct pace_limits *limits);
