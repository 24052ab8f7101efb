/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How the end of a command is told: for people on standard error, in the log, and, where --json was given, as one JSON
 * object on standard output.
 *
 *     error: cannot save process 812
 *            fd 9: /dev/fuse: no such device can be carried
 *     hint:  ...
 *     The program runs on.
 *
 * In JSON: "command", "error" (all in one line; null: it went well), "causes" and "hints" (its lines), "outcome" (the last
 * line), and what else the command knows.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "util/error.h"
#include "util/log.h"

struct report;
struct json_object;

struct report_options {
	const char *command;
	const char *log_path; /* NULL: no log is wanted */
	bool is_appended;     /* to that file; else it is a new one */
	bool is_json;
	unsigned verbosity;
};

/* Opens the log file. */
MUST_USE struct error *report_new(const struct report_options *options, struct report **ret_report);
void report_free(struct report *report);
DEFINE_OWNED(struct report *, report_free)
#define auto_report AUTO(report_free)

/* Where to put lines for the log file; they are written at the end. NULL: no log is wanted. */
struct log *report_log(const struct report *report);

/* More that goes into the JSON object; name is a literal. Nothing without --json. */
void report_text(struct report *report, const char *name, const char *value);           /* NULL: null */
void report_object(struct report *report, const char *name, struct json_object *value); /* consumed */
void report_number(struct report *report, const char *name, uint64_t value);
void report_ms(struct report *report, const char *name, uint64_t value_ns);

/* Takes value over. */
struct json_object;
void report_json(struct report *report, const char *name, struct json_object *value);

/* Somebody else tells people about a failure. */
void report_leave_to_others(struct report *report);

/* Tells the end and returns the exit status. Consumes error; NULL: it went well, and of that people only see what the
 * command prints itself. outcome says what became of the program. */
int report_end(struct report *report, struct error *error, const char *outcome);
