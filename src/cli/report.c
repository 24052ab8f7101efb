/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/report.h"
#include "util/alloc.h"
#include "version.h"

struct report {
	struct json_object *json; /* owned; NULL: not wanted */
	FILE *file;               /* owned; NULL: no log is wanted, nor has log a line */
	struct log *log;          /* owned */
	bool is_left_to_others;
};

struct error *report_new(const struct report_options *options, struct report **ret_report)
{
	auto_report struct report *report = xalloc(sizeof(*report));

	if (options->log_path) {
		report->file = fopen(options->log_path, options->is_appended ? "ae" : "we");
		if (!report->file)
			return error_new(errno, "log file: open(%s)", options->log_path);
		report->log = log_new(options->verbosity);
		log_line(report->log, LOG_PHASES, "godwit %s " GODWIT_VERSION, options->command);
	}
	report->json = options->is_json ? json_object_new_object() : NULL;
	report_text(report, "command", options->command);
	*ret_report = take(report);
	return NULL;
}

void report_free(struct report *report)
{
	if (!report)
		return;
	json_object_put(report->json);
	log_free(report->log);
	own_close_file(&report->file);
	free(report);
}

struct log *report_log(const struct report *report)
{
	return report->log;
}

void report_text(struct report *report, const char *name, const char *value)
{
	if (report->json)
		json_object_object_add(report->json, name, value ? json_object_new_string(value) : NULL);
}

void report_object(struct report *report, const char *name, struct json_object *value)
{
	if (report->json)
		json_object_object_add(report->json, name, value);
	else
		json_object_put(value);
}

void report_number(struct report *report, const char *name, uint64_t value)
{
	if (report->json)
		json_object_object_add(report->json, name, json_object_new_int64((int64_t)value));
}

/* To the microsecond: all digits of a double would say nothing more. */
static struct json_object *milliseconds(uint64_t value_ns)
{
	auto_free char *text = xformat("%.3f", (double)value_ns / 1e6);

	return json_object_new_double_s((double)value_ns / 1e6, text);
}

void report_ms(struct report *report, const char *name, uint64_t value_ns)
{
	if (report->json)
		json_object_object_add(report->json, name, milliseconds(value_ns));
}

void report_json(struct report *report, const char *name, struct json_object *value)
{
	if (report->json)
		json_object_object_add(report->json, name, value);
	else
		json_object_put(value);
}

void report_leave_to_others(struct report *report)
{
	report->is_left_to_others = true;
}

static void print_failure(const struct error *error, const char *outcome, FILE *out)
{
	error_print(error, out);
	fprintf(out, "%s\n", outcome);
}

static struct json_object *steps_of(const struct error *error)
{
	struct json_object *list = json_object_new_array();
	char *step;

	for (size_t n = 0; (step = error_nth_step(error, n)); n++) {
		json_object_array_add(list, json_object_new_string(step));
		free(step);
	}
	return list;
}

static struct json_object *hints_of(const struct error *error)
{
	struct json_object *list = json_object_new_array();
	const char *hint;

	for (size_t n = 0; (hint = error_nth_hint(error, n)); n++)
		json_object_array_add(list, json_object_new_string(hint));
	return list;
}

static void print_json(struct report *report, const struct error *error, const char *outcome)
{
	auto_free char *line = error ? error_line(error) : NULL;

	if (!report->json)
		return;
	report_text(report, "error", line);
	report_object(report, "causes", steps_of(error));
	report_object(report, "hints", hints_of(error));
	report_text(report, "outcome", outcome);
	puts(json_object_to_json_string_ext(report->json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
}

/* What a user who isn't root reads first. */
static struct error *advise(struct error *error)
{
	int errnum = error ? error_errnum(error) : 0;

	if (geteuid() == 0 || (errnum != EPERM && errnum != EACCES))
		return error;
	return error_hint(error, "godwit has to run as root: sudo godwit ...; godwit check tells what is missing");
}

int report_end(struct report *report, struct error *error, const char *outcome)
{
	error = advise(error);
	if (report->file)
		log_write(report->log, report->file);
	print_json(report, error, outcome);
	if (!error)
		return EXIT_SUCCESS;
	fflush(stdout); /* what was found comes before what follows from it, also where both go into one file */
	if (!report->is_left_to_others)
		print_failure(error, outcome, stderr);
	if (report->file) {
		print_failure(error, outcome, report->file);
		fflush(report->file);
	}
	error_free(error);
	return EXIT_FAILURE;
}
