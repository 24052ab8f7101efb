/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A log: what went right, with what, and when. Failures are errors (error.h), not lines here.
 *
 * Lines go into memory, and to a file when nothing stands still any more: a program may be frozen while they are made.
 * When the memory is full the oldest lines go. Functions take NULL for "no log is wanted" and do nothing then.
 */
#pragma once

#include <stdio.h>

#include "util/attributes.h"
#include "util/own.h"

struct log;

/* CRIU's numbers: what -v4 shows and -v3 doesn't is of level 4. */
enum log_level {
	LOG_PHASES = 2, /* steps, with their times */
	LOG_COUNTS = 3, /* what there was to do in each */
	LOG_OBJECTS = 4 /* each object */
};

/* Lines of a higher level are not kept. Never NULL. */
struct log *log_new(unsigned level);

/* A line, without its newline; it gets the time since log_new() in front. */
void log_line(struct log *log, enum log_level level, const char *format, ...) PRINTF(3, 4);

/* Writes all lines and forgets them. */
void log_write(struct log *log, FILE *out);

void log_free(struct log *log);
DEFINE_OWNED(struct log *, log_free)
#define auto_log AUTO(log_free)
