/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit check: what this kernel and our privileges allow. */
#include <json-c/json.h>
#include <stdlib.h>

#include "checkpoint/probe.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "util/alloc.h"

struct check_command {
	struct common_options common; /* first: setters of common options are given this */
	const struct probe *feature;  /* NULL: all */
};

static struct error *set_feature(void *options, const char *value)
{
	struct check_command *check = options;

	check->feature = probe_find(value);
	return check->feature ? NULL
	                      : error_hint(error_new(0, "there is no feature \"%s\"", value),
	                                   "godwit check without --feature names all of them");
}

static const struct option_spec check_table[] = {
	{"feature", 0, "NAME", "only this one; names of CRIU's are known, too", set_feature},
	COMMON_JSON,
	{0},
};

/* For people, on standard output, unless that is for JSON. */
static void print_result(const struct probe *probe, const struct error *error)
{
	auto_free char *why = error ? error_line(error) : NULL;

	printf("%s  %-13s %s\n", error ? "no" : "ok", probe->names[0], probe->purpose);
	if (error)
		printf("    %-13s without it: %s\n    %-13s %s\n", "", probe->without, "", why);
}

static void add_result(struct json_object *features, const struct probe *probe, const struct error *error)
{
	auto_free char *why = error ? error_line(error) : NULL;
	struct json_object *feature = json_object_new_object();

	json_object_object_add(feature, "works", json_object_new_boolean(!error));
	json_object_object_add(feature, "needed", json_object_new_boolean(probe->is_needed));
	json_object_object_add(feature, "purpose", json_object_new_string(probe->purpose));
	json_object_object_add(feature, "without", json_object_new_string(probe->without));
	json_object_object_add(feature, "error", why ? json_object_new_string(why) : NULL);
	json_object_object_add(features, probe->names[0], feature);
}

/* Consumes what the probe says. Is it there? */
static bool try(const struct probe *probe, bool is_json, struct json_object *features)
{
	auto_error struct error *error = probe->run();

	if (!is_json)
		print_result(probe, error);
	add_result(features, probe, error);
	return !error;
}

static int check(const struct check_command *check, struct report *report)
{
	struct json_object *features = json_object_new_object();
	size_t count;
	const struct probe *all = probes(&count);
	size_t missing = 0;

	for (size_t i = 0; i < count; i++)
		if ((!check->feature || check->feature == &all[i]) && !try(&all[i], check->common.is_json, features))
			missing += check->feature || all[i].is_needed;
	report_object(report, "features", features);
	if (missing == 0)
		return report_end(report, NULL, check->feature ? "It works here." : "godwit works here.");
	struct error *error = error_new(0, check->feature ? "%s doesn't work here" : "godwit doesn't work here",
	                                check->feature ? check->feature->names[0] : "");
	if (geteuid() != 0)
		error = error_hint(error, "most of this takes root");
	return report_end(report, error, "Nothing was changed.");
}

static int run_check(const struct command *command, int argc, char **argv)
{
	struct check_command options = {.common = common_defaults};
	auto_report struct report *report = NULL;
	int status;

	return common_begin(command, argc, argv, &options, &report, &status) ? check(&options, report) : status;
}

const struct command check_command = {
	.name = "check",
	.summary = "Tells what this kernel and these privileges allow.",
	.options = check_table,
	.run = run_check,
};
