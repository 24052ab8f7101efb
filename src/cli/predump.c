/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit pre-dump: saves a program's memory while it runs, for a dump to have less to save. */
#include <stdlib.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/dump_report.h"

static struct error *set_track_mem(void *options, const char *value)
{
	(void)options; /* a pre-dump does nothing else */
	(void)value;
	return NULL;
}

static const struct option_spec predump_table[] = {
	COMMON_SAVE,   {"track-mem", 0, NULL, "is what it does in any case", set_track_mem},
	COMMON_REPORT, COMMON_CARRY,
	COMMON_WAIT,   COMMON_STDIO,
	{0},
};

static struct error *check_options(const void *options)
{
	return common_check_tree(options);
}

/* What becomes of connections and terminal is for the dump to say: CRIU's pre-dump doesn't ask for it, either. */
static struct carry_options carry_for_memory(const struct common_options *common)
{
	struct carry_options carry = common->carry;

	carry.tcp_established = true;
	carry.shell_job = true;
	return carry;
}

static struct error *save(struct common_options *common, struct log *log, struct dump_statistics *ret_statistics)
{
	auto_fd int dir = -1;

	TRY(check_program(common->pid));
	TRY(open_images_dir(common, &dir));
	const struct dump_options options = {
		.pid = common->pid,
		.images_dir_fd = dir,
		.parent_dir = common->parent_dir,
		.tracks_memory = true,
		.wait_children_ns = common->wait_children_s * 1000000000,
		.carry = carry_for_memory(common),
		.hooks = scripts_hooks(&common->scripts),
		.log = log,
	};
	return predump_run(&options, ret_statistics);
}

static int predump(struct common_options *options, struct report *report)
{
	struct dump_statistics statistics = {0};
	struct error *error = error_wrap(save(options, report_log(report), &statistics),
	                                 "cannot save the memory of process %d", options->pid);

	sweep_locks(report_log(report));
	report_number(report, "pid", (uint64_t)options->pid);
	if (!error)
		dump_report(report, options, &statistics);
	return report_end(report, error, "The program runs on.");
}

static int run_predump(const struct command *command, int argc, char **argv)
{
	struct common_options options = common_defaults;
	auto_report struct report *report = NULL;
	int status;

	return common_begin(command, argc, argv, &options, &report, &status) ? predump(&options, report) : status;
}

const struct command predump_command = {
	.name = "pre-dump",
	.summary = "Saves a program's memory while it runs, for a dump to have less to save.",
	.options = predump_table,
	.check = check_options,
	.run = run_predump,
};
