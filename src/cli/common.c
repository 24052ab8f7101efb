/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86_64/cpu.h"
#include "cli/common.h"
#include "network/lock.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { VERBOSITY_MAX = 4, WAIT_MAX_S = 24 * 60 * 60 };

const struct common_options common_defaults = {
	.verbosity = 2,
	.cpu_caps = CPU_CAP_FPU | CPU_CAP_INS,
	.carry = {.ghost_limit_bytes = 1 << 20},
};

static struct error *set_text(const char **into, const char *value)
{
	if (!*value)
		return error_new(0, "empty");
	*into = value;
	return NULL;
}

struct error *set_images_dir(void *options, const char *value)
{
	struct common_options *common = options;

	common->scripts.images_dir = value;
	return set_text(&common->images_dir, value);
}

struct error *set_prev_images_dir(void *options, const char *value)
{
	return set_text(&((struct common_options *)options)->parent_dir, value);
}

struct error *set_tree(void *options, const char *value)
{
	return parse_pid(value, &((struct common_options *)options)->pid);
}

struct error *set_work_dir(void *options, const char *value)
{
	return set_text(&((struct common_options *)options)->work_dir, value);
}

struct error *set_log_file(void *options, const char *value)
{
	return set_text(&((struct common_options *)options)->log_file, value);
}

/* "-v4", "-vvvv" (getopt hands over "vvv" then), "-v", "-v -v". */
struct error *set_verbosity(void *options, const char *value)
{
	struct common_options *common = options;
	uint64_t number;

	if (!value || value[strspn(value, "v")] == '\0') {
		unsigned more = 1 + (value ? (unsigned)strlen(value) : 0);

		/* The first -v says 1, as in CRIU. */
		common->verbosity = common->verbosity_counted ? common->verbosity + more : more;
		common->verbosity_counted = true;
		return NULL;
	}
	TRY(parse_number(value, VERBOSITY_MAX, &number));
	common->verbosity = (unsigned)number;
	return NULL;
}

struct error *set_action_script(void *options, const char *value)
{
	return scripts_add(&((struct common_options *)options)->scripts, value);
}

struct error *set_json(void *options, const char *value)
{
	(void)value;
	((struct common_options *)options)->is_json = true;
	return NULL;
}

struct error *set_tcp_established(void *options, const char *value)
{
	(void)value;
	((struct common_options *)options)->carry.tcp_established = true;
	return NULL;
}

struct error *set_shell_job(void *options, const char *value)
{
	(void)value;
	((struct common_options *)options)->carry.shell_job = true;
	return NULL;
}

/* What CRIU has to be asked for is done without being asked. */
struct error *set_file_locks(void *options, const char *value)
{
	(void)options;
	(void)value;
	return NULL;
}

struct error *set_ghost_limit(void *options, const char *value)
{
	return parse_size(value, &((struct common_options *)options)->carry.ghost_limit_bytes);
}

struct error *set_stdio(void *options, const char *value)
{
	static const char *const names[] = {[STDIO_KEEP] = "keep", [STDIO_NULL] = "null", [STDIO_JOURNAL] = "journal"};
	struct carry_options *carry = &((struct common_options *)options)->carry;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(value, names[i]) == 0) {
			carry->stdio = (enum stdio)i;
			return NULL;
		}
	if (value[0] != '/')
		return error_new(0, "\"%s\" is none of keep, null, journal, nor the path of a file from the root",
		                 value);
	carry->stdio = STDIO_FILE;
	carry->stdio_path = value;
	return NULL;
}

/* CRIU's names; what it calls cap is its list separated by commas. */
struct error *set_cpu_cap(void *options, const char *value)
{
	static const struct {
		const char *name;
		unsigned caps;
	} names[] = {
		{"none", 0},          {"fpu", CPU_CAP_FPU}, {"ins", CPU_CAP_INS},
		{"cpu", CPU_CAP_CPU}, {"all", CPU_CAP_CPU}, {NULL, 0},
	};
	unsigned caps = 0;

	for (const char *at = value;; at++) {
		size_t length = strcspn(at, ",");
		size_t i = 0;

		while (names[i].name && (strlen(names[i].name) != length || strncmp(names[i].name, at, length) != 0))
			i++;
		if (!names[i].name)
			return error_new(0, "\"%s\" is none of none, fpu, ins, cpu, all", value);
		caps |= names[i].caps;
		at += length;
		if (!*at)
			break;
	}
	((struct common_options *)options)->cpu_caps = caps;
	return NULL;
}

struct error *set_wait_children(void *options, const char *value)
{
	return parse_number(value, WAIT_MAX_S, &((struct common_options *)options)->wait_children_s);
}

struct error *set_pids(void *options, const char *value)
{
	bool is_new = strcmp(value, "new") == 0;

	((struct common_options *)options)->has_new_pids = is_new;
	return is_new || strcmp(value, "same") == 0 ? NULL : error_new(0, "\"%s\" is none of same, new", value);
}

struct error *common_check(const struct common_options *options)
{
	if (options->has_new_pids && options->carry.shell_job)
		return error_new(0,
		                 "--shell-job and --pids new exclude each other: the shell's session is outside of it");
	return NULL;
}

/* ---- Folders and log ---- */

struct error *open_images_dir(const struct common_options *options, int *ret_fd)
{
	if (!options->images_dir)
		return error_hint(error_new(0, "no folder for the images"), "--images-dir DIR names it");
	int fd = open(options->images_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "folder of the images: open(%s)", options->images_dir);
	*ret_fd = fd;
	return NULL;
}

struct error *common_report(const struct common_options *options, const struct command *command,
                            struct report **ret_report)
{
	const char *dir = options->work_dir ? options->work_dir : options->images_dir ? options->images_dir : ".";
	auto_free char *path = NULL;

	if (options->log_file)
		path = options->log_file[0] == '/' ? xformat("%s", options->log_file)
		                                   : xformat("%s/%s", dir, options->log_file);
	const struct report_options report = {
		.command = command->name,
		.log_path = path,
		.is_appended = options->is_log_appended,
		.is_json = options->is_json,
		.verbosity = options->verbosity,
	};
	return report_new(&report, ret_report);
}

void sweep_locks(struct log *log)
{
	size_t removed = 0;
	auto_error struct error *error = kept_locks_sweep(&removed);
	auto_free char *line = error ? error_line(error) : NULL;

	if (line)
		log_line(log, LOG_PHASES, "network locks of programs that are gone: %s", line);
	else if (removed)
		log_line(log, LOG_PHASES, "%zu network locks of programs that are gone are removed", removed);
}

bool program_is_there(pid_t pid)
{
	enum { STAT_THREADS = 20 };
	uint64_t threads;

	if (kill(pid, 0) < 0 && errno == ESRCH)
		return false;
	/* Its parent may not have looked yet. Where only the first thread is dead, others are counted. */
	return !procfs_is_dead(pid) || (procfs_stat_field(pid, STAT_THREADS, &threads) == 0 && threads > 1);
}

struct error *check_program(pid_t pid)
{
	uint64_t thread_group;
	auto_free char *status = NULL;

	if (pid == getpid())
		return error_new(0, "PID %d is godwit itself", pid);
	int r = procfs_read(pid, "status", &status, NULL);
	if (r == -ENOENT)
		return error_hint(error_new(0, "there is no process %d", pid), "pgrep -a NAME finds programs by name");
	if (r == 0 && procfs_number(status, "Tgid", 10, &thread_group) == 0 && thread_group != (uint64_t)pid)
		return error_hint(error_new(0, "%d is a thread of process %" PRIu64, pid, thread_group),
		                  "that is the PID to name");
	return NULL;
}

/* ---- The end ---- */

int usage_status(struct error *error)
{
	if (!error)
		return EXIT_SUCCESS;
	error_print(error, stderr);
	error_free(error);
	return EXIT_USAGE;
}

bool common_begin(const struct command *command, int argc, char **argv, void *options, struct report **ret_report,
                  int *ret_status)
{
	bool is_help;
	int first;
	struct error *error = options_parse(command, argc, argv, options, &first, &is_help);

	if (!error && !is_help && command->check)
		error = command->check(options);
	if (!error && !is_help)
		error = common_report(options, command, ret_report);
	if (!error && !is_help)
		return true;
	*ret_status = usage_status(error);
	return false;
}

struct error *common_check_tree(const struct common_options *options)
{
	if (!options->pid)
		return error_hint(error_new(0, "no program to save"), "--tree PID names it");
	if (!options->images_dir)
		return error_hint(error_new(0, "no folder for the images"), "--images-dir DIR names it");
	return NULL;
}
