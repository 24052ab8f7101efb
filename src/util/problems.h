/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Reasons that are collected, so that the user gets all of them at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

struct problems {
	struct error **list; /* owned */
	size_t count;
};

/* Consumes error; NULL is none. */
void problems_add(struct problems *problems, struct error *error);
void problems_free(struct problems *problems); /* what it points to, not itself */
#define auto_problems __attribute__((cleanup(problems_free)))

/* Takes away those that the others don't have, in the same words. */
void problems_keep_common(struct problems *problems, const struct problems *others);

/* Whether each of them has this errno. */
bool problems_all_are(const struct problems *problems, int errnum);

/* Takes away those that have it. */
void problems_drop(struct problems *problems, int errnum);

/* NULL where there are none; else one error with the headline and a line for each problem, and all their hints. */
MUST_USE struct error *problems_error(const struct problems *problems, const char *format, ...) PRINTF(2, 3);
