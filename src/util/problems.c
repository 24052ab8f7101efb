/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

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

/* One line, with its hints. */
static struct error *one_step(const struct error *problem)
{
	auto_free char *line = error_line(problem);
	auto_free char *hints = xformat("%s", "");
	struct error *step = error_new(0, "%s", line);
	const char *hint;

	for (size_t n = 0; (hint = error_nth_hint(problem, n)); n++) {
		auto_free char *former = hints;

		hints = xformat("%s%s%s", former, n > 0 ? "; " : "", hint);
	}
	return *hints ? error_hint(step, "%s", hints) : step;
}

static bool has_same(const struct problems *problems, const struct error *wanted)
{
	auto_free char *line = error_line(wanted);

	for (size_t i = 0; i < problems->count; i++) {
		auto_free char *other = error_line(problems->list[i]);

		if (strcmp(line, other) == 0)
			return true;
	}
	return false;
}

void problems_keep_common(struct problems *problems, const struct problems *others)
{
	size_t kept = 0;

	for (size_t i = 0; i < problems->count; i++)
		if (has_same(others, problems->list[i]))
			problems->list[kept++] = problems->list[i];
		else
			error_free(problems->list[i]);
	problems->count = kept;
}

bool problems_all_are(const struct problems *problems, int errnum)
{
	for (size_t i = 0; i < problems->count; i++)
		if (error_errnum(problems->list[i]) != errnum)
			return false;
	return true;
}

void problems_drop(struct problems *problems, int errnum)
{
	size_t kept = 0;

	for (size_t i = 0; i < problems->count; i++)
		if (error_errnum(problems->list[i]) != errnum)
			problems->list[kept++] = problems->list[i];
		else
			error_free(problems->list[i]);
	problems->count = kept;
}

struct error *problems_error(const struct problems *problems, const char *format, ...)
{
	struct error *all = NULL;
	va_list args;

	for (size_t i = 0; i < problems->count; i++)
		all = error_join(all, one_step(problems->list[i]));
	va_start(args, format);
	auto_free char *headline = xvformat(format, args);
	va_end(args);
	return error_wrap(all, "%s", headline);
}
