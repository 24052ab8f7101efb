/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What commands have in common: folders, log, scripts, and what the program may have. */
#pragma once

#include "cli/options.h"
#include "cli/report.h"
#include "cli/scripts.h"
#include "objects/objects.h"

/* First in the options of each command that takes them. Strings are borrowed from argv. */
struct common_options {
	const char *images_dir, *work_dir, *log_file;
	const char *parent_dir; /* NULL: no part of a chain */
	bool is_log_appended;   /* to that file, which otherwise is new each time */
	pid_t pid;              /* of the program, where a command takes one */
	unsigned verbosity;
	bool verbosity_counted; /* by -v without a number */
	bool is_json;
	uint64_t wait_children_s;
	unsigned cpu_caps; /* enum cpu_cap */
	bool has_new_pids; /* a PID namespace of its own */
	struct scripts scripts;
	struct carry_options carry;
};
extern const struct common_options common_defaults;

/* Setters for option tables: options points to a struct common_options. */
struct error *set_images_dir(void *options, const char *value);
struct error *set_prev_images_dir(void *options, const char *value);
struct error *set_tree(void *options, const char *value);
struct error *set_work_dir(void *options, const char *value);
struct error *set_log_file(void *options, const char *value);
struct error *set_verbosity(void *options, const char *value);
struct error *set_action_script(void *options, const char *value);
struct error *set_json(void *options, const char *value);
struct error *set_tcp_established(void *options, const char *value);
struct error *set_shell_job(void *options, const char *value);
struct error *set_ghost_limit(void *options, const char *value);
struct error *set_file_locks(void *options, const char *value);
struct error *set_cpu_cap(void *options, const char *value);
struct error *set_stdio(void *options, const char *value);
struct error *set_wait_children(void *options, const char *value);
struct error *set_pids(void *options, const char *value);

#define COMMON_DIRECTORIES                                                                                   \
	{"images-dir", 'D', "DIR", "folder of the images", set_images_dir},                                  \
	{                                                                                                    \
		"work-dir", 'W', "DIR", "folder of the log file (default: that of the images)", set_work_dir \
	}
#define COMMON_SAVE                                                                                     \
	{"tree", 't', "PID", "the program to save", set_tree}, COMMON_DIRECTORIES,                      \
	{                                                                                               \
		"prev-images-dir", 0, "DIR",                                                            \
			"save only memory written since that one, named from the folder of the images", \
			set_prev_images_dir                                                             \
	}
#define COMMON_JSON                                                                  \
	{                                                                            \
		"json", 0, NULL, "tell the end as JSON on standard output", set_json \
	}
#define COMMON_REPORT                                                                                               \
	{"action-script", 0, "COMMAND", "run it at the points that CRIU names; may be given again",                 \
	 set_action_script},                                                                                        \
		{"log-file", 'o', "FILE", "write a log, named from the work folder (default: none)", set_log_file}, \
		{"verbosity", 'v', "[=LEVEL]", "how much to log, 0 to 4; each -v is one more (default: 2)",         \
	         set_verbosity},                                                                                    \
		COMMON_JSON
#define COMMON_CARRY                                                                                                   \
	{"tcp-established", 0, NULL, "carry established TCP connections", set_tcp_established},                        \
		{"shell-job", 'j', NULL, "the program belongs to a shell's session and joins another", set_shell_job}, \
		{"file-locks", 'l', NULL, "is as in CRIU; locks of files are carried in any case", set_file_locks},    \
	{                                                                                                              \
		"ghost-limit", 0, "SIZE", "largest deleted file to put into the images (default: 1M)", set_ghost_limit \
	}

#define COMMON_CPU                                                                                            \
	{                                                                                                     \
		"cpu-cap", 0, "CAP",                                                                          \
			"what of the processor has to be there: none, fpu, ins, cpu, all (default: fpu,ins)", \
			set_cpu_cap                                                                           \
	}
#define COMMON_STDIO                                                                                  \
	{                                                                                             \
		"stdio", 0, "keep|null|journal|FILE",                                                 \
			"what standard streams become that can't go along (default: keep)", set_stdio \
	}
#define COMMON_WAIT                                                                                        \
	{                                                                                                  \
		"wait-children", 0, "SECONDS", "wait so long for the end of child processes (default: 0)", \
			set_wait_children                                                                  \
	}

/* What they may not be together. */
MUST_USE struct error *common_check(const struct common_options *options);

#define COMMON_PIDS                                                                                        \
	{                                                                                                  \
		"pids", 0, "same|new", "new: give it a PID namespace of its own (default: same)", set_pids \
	}

/* Opens the folder of the images; the caller closes it. An error if it wasn't given. */
MUST_USE struct error *open_images_dir(const struct common_options *options, int *ret_fd);

/* What tells the end of this command. Opens the log file, where one was asked for. */
MUST_USE struct error *common_report(const struct common_options *options, const struct command *command,
                                     struct report **ret_report);

/* Removes network locks of programs that were left stopped and are gone. What fails there is only noted in the log: it is no
 * reason not to do what was asked for. */
void sweep_locks(struct log *log);

/* Can this PID be meant? */
MUST_USE struct error *check_program(pid_t pid);

/* For telling what became of it. */
bool program_is_there(pid_t pid);

enum { EXIT_USAGE = 2, EXIT_UNDECIDED = 3 };

/* What a command without other arguments begins with: its options (first in which are the common ones) are parsed and
 * checked, and its report is made. False: that was all, and *ret_status is the exit status. */
bool common_begin(const struct command *command, int argc, char **argv, void *options, struct report **ret_report,
                  int *ret_status);

/* For one with --tree PID. */
MUST_USE struct error *common_check_tree(const struct common_options *options);

/* For a wrong command line: prints and frees error, returns the exit status. NULL: that of help. */
int usage_status(struct error *error);
