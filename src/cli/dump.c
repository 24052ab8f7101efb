/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit dump: saves a program into a folder. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/dump.h"
#include "cli/commands.h"
#include "cli/common.h"

struct dump_command {
	struct common_options common; /* first: setters of common options are given this */
	pid_t pid;
	bool is_left_stopped, is_left_running;
};

static struct error *set_tree(void *options, const char *value)
{
	return parse_pid(value, &((struct dump_command *)options)->pid);
}

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

static const struct option_spec dump_table[] = {
	{"tree", 't', "PID", "the program to save", set_tree},
	COMMON_DIRECTORIES,
	{"leave-stopped", 's', NULL, "leave it stopped when it is saved, instead of ending it", set_leave_stopped},
	{"leave-running", 'R', NULL, "let it run on when it is saved, instead of ending it", set_leave_running},
	COMMON_CARRY,
	{0},
};

static struct error *check_options(const struct dump_command *dump)
{
	if (!dump->pid)
		return error_hint(error_new(0, "no program to save"), "--tree PID names it");
	if (dump->is_left_stopped && dump->is_left_running)
		return error_new(0, "--leave-stopped and --leave-running exclude each other");
	return check_program(dump->pid);
}

static void log_statistics(FILE *log, const struct dump_command *dump, const struct dump_statistics *statistics)
{
	if (!log || dump->common.verbosity < 1)
		return;
	fprintf(log,
	        "saved process %d: stopped in %.3f ms, frozen %.3f ms; %" PRIu64 " pages, read in %.3f ms, "
	        "written to disk in %.3f ms\n",
	        dump->pid, (double)statistics->freezing_ns / 1e6, (double)statistics->frozen_ns / 1e6,
	        statistics->pages_written, (double)statistics->memory_ns / 1e6, (double)statistics->write_ns / 1e6);
}

static const char *outcome_text(enum dump_outcome outcome)
{
	switch (outcome) {
	case DUMP_RUNS:
		return "The program runs on.";
	case DUMP_STOPPED:
		return "The program is stopped; kill -CONT lets it run.";
	case DUMP_ENDED:
		return "The program has been ended, and its images are complete.";
	}
	return "";
}

static int dump_with_log(const struct dump_command *dump, FILE *log)
{
	enum dump_outcome outcome = DUMP_RUNS;
	struct dump_statistics statistics;
	int dir;
	struct error *error = open_images_dir(&dump->common, &dir);

	if (error)
		return failure_status(error, outcome_text(outcome), log);
	const struct dump_options options = {
		.pid = dump->pid,
		.images_dir_fd = dir,
		.end = dump->is_left_stopped   ? DUMP_LEAVE_STOPPED
	               : dump->is_left_running ? DUMP_LEAVE_RUNNING
	                                       : DUMP_KILL,
		.carry = dump->common.carry,
	};
	error = dump_run(&options, &outcome, &statistics);
	close(dir);
	if (error)
		return failure_status(error_wrap(error, "cannot save process %d", dump->pid), outcome_text(outcome),
		                      log);
	log_statistics(log, dump, &statistics);
	return EXIT_SUCCESS;
}

static int run_dump(const struct command *command, int argc, char **argv)
{
	struct dump_command dump = {.common = common_defaults};
	auto_file FILE *log = NULL;
	bool is_help;
	int first;
	struct error *error = options_parse(command, argc, argv, &dump, &first, &is_help);

	if (!error && !is_help)
		error = check_options(&dump);
	if (!error && !is_help)
		error = open_log(&dump.common, &log);
	if (error || is_help)
		return usage_status(error);
	return dump_with_log(&dump, log);
}

const struct command dump_command = {
	.name = "dump",
	.summary = "Saves a program into a folder, from which godwit restore brings it back.",
	.options = dump_table,
	.run = run_dump,
};
