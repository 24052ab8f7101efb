/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdarg.h>
#include <stdlib.h>

#include "util/alloc.h"
#include "util/problems.h"

void problems_add(struct problems *problems, struct error *error)
{
	if (!error)
		return;
	struct error **list = reallocarray(problems->list, problems->count + 1, sizeof(*list));
	if (!list)
		abort();
	list[problems->count++] = error;
	problems->list = list;
}

void problems_free(struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		error_free(problems->list[i]);
	free(problems->list);
	*problems = (struct problems){0};
}

struct error *problems_error(const struct problems *problems, const char *format, ...)
{
	auto_free char *text = NULL;
	auto_free char *hints = NULL;
	size_t size_bytes[2];
	va_list args;

	if (problems->count == 0)
		return NULL;
	FILE *lines = open_memstream(&text, &size_bytes[0]);
	FILE *hint_lines = open_memstream(&hints, &size_bytes[1]);
	if (!lines || !hint_lines)
		abort();
	va_start(args, format);
	vfprintf(lines, format, args);
	va_end(args);
	for (size_t i = 0; i < problems->count; i++) {
		auto_free char *line = error_line(problems->list[i]);

		fprintf(lines, "\n       %s", line);
		error_print_hints(problems->list[i], hint_lines);
	}
	fclose(lines);
	fclose(hint_lines);
	struct error *error = error_new(0, "%s", text);
	return *hints ? error_hint(error, "%s", hints) : error;
}
