/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit dump: saves a program into a folder. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/dump_report.h"
#include "cli/supervision.h"
#include "util/alloc.h"

struct dump_command {
	struct common_options common; /* first: setters of common options are given this */
	bool is_left_stopped, is_left_running, tracks_memory;
};

static struct error *set_leave_stopped(void *options, const char *value)
{
	(void)value;
	((struct dump_command *)options)->is_left_stopped = true;
	return NULL;
}

static struct error *set_leave_running(void *options, const char *value)
{
	(void)value;
	((struct dump_command *)options)->is_left_running = true;
	return NULL;
}

static struct error *set_track_mem(void *options, const char *value)
{
	(void)value;
	((struct dump_command *)options)->tracks_memory = true;
	return NULL;
}

static const struct option_spec dump_table[] = {
	COMMON_SAVE,
	{"track-mem", 0, NULL, "keep track of what it writes, for the next dump", set_track_mem},
	COMMON_REPORT,
	{"leave-stopped", 's', NULL, "leave it stopped when it is saved, instead of ending it", set_leave_stopped},
	{"leave-running", 'R', NULL, "let it run on when it is saved, instead of ending it", set_leave_running},
	COMMON_CARRY,
	COMMON_WAIT,
	COMMON_STDIO,
	{0},
};

static struct error *check_options(const void *options)
{
	const struct dump_command *dump = options;

	TRY(common_check_tree(&dump->common));
	if (dump->is_left_stopped && dump->is_left_running)
		return error_new(0, "--leave-stopped and --leave-running exclude each other");
	return NULL;
}

/* Before the program is touched: what is there would be in the way only when it stands still. */
static struct error *open_empty_dir(const struct dump_command *dump, int *ret_fd)
{
	auto_fd int dir = -1;
	struct error *error = open_images_dir(&dump->common, &dir);

	if (error && error_errnum(error) == ENOENT)
		return error_hint(error, "mkdir -p %s", dump->common.images_dir);
	if (error)
		return error;
	if (faccessat(dir, "inventory.img", F_OK, 0) == 0 || faccessat(dir, "pstree.img", F_OK, 0) == 0)
		return error_hint(error_new(0, "%s holds the images of another dump", dump->common.images_dir),
		                  "name an empty folder");
	*ret_fd = take(dir);
	return NULL;
}

static struct error *save(struct dump_command *dump, struct log *log, enum dump_outcome *ret_outcome,
                          struct dump_statistics *ret_statistics)
{
	auto_fd int dir = -1;

	TRY(check_program(dump->common.pid));
	TRY(open_empty_dir(dump, &dir));
	const struct dump_options options = {
		.pid = dump->common.pid,
		.images_dir_fd = dir,
		.end = dump->is_left_stopped   ? DUMP_LEAVE_STOPPED
	               : dump->is_left_running ? DUMP_LEAVE_RUNNING
	                                       : DUMP_KILL,
		.parent_dir = dump->common.parent_dir,
		.tracks_memory = dump->tracks_memory,
		.wait_children_ns = dump->common.wait_children_s * 1000000000,
		.carry = dump->common.carry,
		.hooks = scripts_hooks(&dump->common.scripts),
		.log = log,
	};
	return dump_run(&options, ret_outcome, ret_statistics);
}

static char *outcome_text(const struct dump_command *dump, enum dump_outcome outcome)
{
	switch (outcome) {
	case DUMP_RUNS:
		return xformat("%s", program_is_there(dump->common.pid) ? "The program runs on."
		                                                        : "The program is not there.");
	case DUMP_STOPPED:
		return xformat("The program is stopped. When it runs elsewhere: kill -KILL %d. To let it go on here: "
		               "godwit resolve --thaw %d.",
		               dump->common.pid, dump->common.pid);
	case DUMP_ENDED:
		return xformat("The program has been ended, and its images are complete.");
	}
	abort();
}

static const char *outcome_word(enum dump_outcome outcome)
{
	switch (outcome) {
	case DUMP_RUNS:
		return "runs";
	case DUMP_STOPPED:
		return "stopped";
	case DUMP_ENDED:
		return "ended";
	}
	abort();
}

/* Who will see it end, by SIGKILL: now, or when the user ends what was left stopped. */
static void tell_supervisor(const struct dump_command *dump, struct report *report)
{
	auto_supervisor struct supervisor supervisor = {0};

	if (dump->is_left_running)
		return;
	supervisor_look(dump->common.pid, -1, &supervisor);
	supervision_tell(&supervisor, "stop or mask it first, or save with --leave-running", true, report);
}

static int dump(struct dump_command *dump, struct report *report)
{
	enum dump_outcome outcome = DUMP_RUNS;
	struct dump_statistics statistics = {0};

	tell_supervisor(dump, report);
	struct error *error = error_wrap(save(dump, report_log(report), &outcome, &statistics),
	                                 "cannot save process %d", dump->common.pid);
	auto_free char *text = outcome_text(dump, outcome);

	sweep_locks(report_log(report));
	report_number(report, "pid", (uint64_t)dump->common.pid);
	report_text(report, "program", outcome_word(outcome));
	if (!error)
		dump_report(report, &dump->common, &statistics);
	if (!error && outcome == DUMP_STOPPED)
		fprintf(stderr, "%s\n", text);
	int status = report_end(report, error, text);
	return status && dump->common.scripts.post_dump_status ? dump->common.scripts.post_dump_status : status;
}

static int run_dump(const struct command *command, int argc, char **argv)
{
	struct dump_command options = {.common = common_defaults};
	auto_report struct report *report = NULL;
	int status;

	return common_begin(command, argc, argv, &options, &report, &status) ? dump(&options, report) : status;
}

const struct command dump_command = {
	.name = "dump",
	.summary = "Saves a program into a folder, from which godwit restore brings it back.",
	.options = dump_table,
	.check = check_options,
	.run = run_dump,
};
