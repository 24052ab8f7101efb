/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOG_LINES = 4096, LINE_BYTES = 160 };

struct log {
	unsigned level;
	uint64_t start_ns;
	uint64_t line_count; /* all that there ever were */
	char lines[LOG_LINES][LINE_BYTES];
};

/* Touched here, so that no line costs a page fault later. */
struct log *log_new(unsigned level)
{
	struct log *log = xalloc(sizeof(*log));

	memset(log->lines, 0, sizeof(log->lines));
	log->level = level;
	log->start_ns = clock_now_ns();
	return log;
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
	va_list args;

	if (!log || level > log->level)
		return;
	char *line = log->lines[log->line_count++ % LOG_LINES];
	uint64_t passed_us = (clock_now_ns() - log->start_ns) / 1000;
	int used = snprintf(line, LINE_BYTES, "(%02u.%06u) ", (unsigned)(passed_us / 1000000),
	                    (unsigned)(passed_us % 1000000));
	va_start(args, format);
	int wanted = vsnprintf(line + used, (size_t)(LINE_BYTES - used), format, args);
	va_end(args);
	if (wanted >= LINE_BYTES - used)
		memcpy(line + LINE_BYTES - 4, "...", 4);
}

void log_write(struct log *log, FILE *out)
{
	if (!log)
		return;
	uint64_t first = log->line_count > LOG_LINES ? log->line_count - LOG_LINES : 0;

	if (first > 0)
		fprintf(out, "(%llu older lines are gone)\n", (unsigned long long)first);
	for (uint64_t i = first; i < log->line_count; i++)
		fprintf(out, "%s\n", log->lines[i % LOG_LINES]);
	fflush(out);
	log->line_count = 0;
}

void log_free(struct log *log)
{
	free(log);
}
