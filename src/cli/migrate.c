/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit migrate: moves a running program to another host. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/supervision.h"
#include "image/pages.h"
#include "migrate/signals.h"
#include "migrate/source.h"

enum { ADDRESSES_MAX = 64, REMOTE_OPTIONS_MAX = 16, ROUNDS_MAX = 1000, MILLISECONDS_MAX = 600000 };

struct migrate_command {
	struct common_options common; /* first: setters of common options are given this */
	const char *destination, *ssh, *remote_path, *key, *state_dir;
	uint64_t max_downtime_ms, max_freeze_ms, max_rounds;
	enum track track;
	int exit_status;
	bool stops_unit;
	const char *addresses[ADDRESSES_MAX];
	size_t address_count;
	const char *remote_options[REMOTE_OPTIONS_MAX];
	size_t remote_option_count;
};

static struct error *set_max_downtime(void *options, const char *value)
{
	return parse_number(value, MILLISECONDS_MAX, &((struct migrate_command *)options)->max_downtime_ms);
}

static struct error *set_max_freeze(void *options, const char *value)
{
	return parse_number(value, MILLISECONDS_MAX, &((struct migrate_command *)options)->max_freeze_ms);
}

static struct error *set_max_rounds(void *options, const char *value)
{
	return parse_number(value, ROUNDS_MAX, &((struct migrate_command *)options)->max_rounds);
}

static struct error *set_track(void *options, const char *value)
{
	static const char *const names[] = {
		[TRACK_AUTO] = "auto",
		[TRACK_USERFAULTFD] = "userfaultfd",
		[TRACK_SOFT_DIRTY] = "soft-dirty",
		[TRACK_HASH] = "hash",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(value, names[i]) == 0) {
			((struct migrate_command *)options)->track = (enum track)i;
			return NULL;
		}
	return error_new(0, "\"%s\" is none of auto, userfaultfd, soft-dirty, hash", value);
}

static struct error *set_move_address(void *options, const char *value)
{
	struct migrate_command *migrate = options;

	if (migrate->address_count == ADDRESSES_MAX)
		return error_new(0, "more than %d addresses", ADDRESSES_MAX);
	migrate->addresses[migrate->address_count++] = value;
	return NULL;
}

static struct error *set_ssh(void *options, const char *value)
{
	((struct migrate_command *)options)->ssh = value;
	return value[strspn(value, " ")] ? NULL : error_new(0, "empty");
}

static struct error *set_remote_path(void *options, const char *value)
{
	((struct migrate_command *)options)->remote_path = value;
	return *value ? NULL : error_new(0, "empty");
}

static struct error *set_remote_option(void *options, const char *value)
{
	struct migrate_command *migrate = options;

	if (migrate->remote_option_count == REMOTE_OPTIONS_MAX)
		return error_new(0, "more than %d options for the other side", REMOTE_OPTIONS_MAX);
	migrate->remote_options[migrate->remote_option_count++] = value;
	return NULL;
}

static struct error *set_key(void *options, const char *value)
{
	((struct migrate_command *)options)->key = value;
	return NULL;
}

static struct error *set_state_dir(void *options, const char *value)
{
	((struct migrate_command *)options)->state_dir = value;
	return *value ? NULL : error_new(0, "empty");
}

static struct error *set_source_exit(void *options, const char *value)
{
	struct migrate_command *migrate = options;
	uint64_t status;

	if (strcmp(value, "KILL") == 0) {
		migrate->exit_status = -1;
		return NULL;
	}
	TRY(parse_number(value, 255, &status));
	migrate->exit_status = (int)status;
	return NULL;
}

static struct error *set_stop_unit(void *options, const char *value)
{
	(void)value;
	((struct migrate_command *)options)->stops_unit = true;
	return NULL;
}

static const struct option_spec migrate_table[] = {
	{"max-downtime", 0, "MS", "no pause that is longer, as long as rounds make it shorter (default: 20)",
         set_max_downtime},
	{"max-freeze", 0, "MS", "give up, and let it run on here, after this long (default: 2000)", set_max_freeze},
	{"max-rounds", 0, "N", "send memory in at most N rounds while it runs (default: 30)", set_max_rounds},
	{"track", 0, "HOW", "how written memory is told: auto, userfaultfd, soft-dirty, hash (default: auto)",
         set_track},
	{"move-address", 0, "ADDR[/PREFIX]", "an IP address that moves along; may be given again", set_move_address},
	COMMON_CPU,
	COMMON_PIDS,
	{"ssh", 0, "COMMAND", "how to call ssh (default: ssh)", set_ssh},
	{"remote-path", 0, "COMMAND", "how to call godwit on the other host (default: godwit)", set_remote_path},
	{"remote-option", 'M', "OPTION", "an option for godwit receive over there; may be given again",
         set_remote_option},
	{"key", 0, "FILE", "the key for tls://, which both hosts have", set_key},
	{"source-exit", 0, "KILL|N", "how the copy here ends: SIGKILL, or exit status N (default: 0)", set_source_exit},
	{"stop-unit", 0, NULL, "stop the unit of systemd that the program is in here, when it runs over there",
         set_stop_unit},
	{"state-dir", 0, "DIR", "folder of the journal (default: /var/lib/godwit)", set_state_dir},
	{"shell-job", 'j', NULL, "the program belongs to a shell's session, which stays", set_shell_job},
	{"ghost-limit", 0, "SIZE", "largest deleted file to take along (default: 1M)", set_ghost_limit},
	COMMON_WAIT,
	COMMON_STDIO,
	COMMON_REPORT,
	{0},
};

/* ---- Telling ---- */

struct teller {
	struct migrate_watcher watcher;
	bool is_terminal;
};

/* A line that is written over on a terminal; else one for each step. Never in the freeze: that has no progress to
 * tell. */
static void tell(struct migrate_watcher *watcher, const struct migrate_progress *progress)
{
	const struct teller *teller = (struct teller *)watcher;
	const char *end = teller->is_terminal ? "\x1b[K\r" : "\n";

	if (!progress->is_step && !teller->is_terminal)
		return;
	if (progress->round == 0) {
		fprintf(stderr, "%s%s", progress->phase, end);
		return;
	}
	fprintf(stderr, "round %u: %.1f MB sent, %.1f MB left, %.0f MB/s", progress->round,
	        (double)progress->sent_bytes / 1e6, (double)progress->left_pages * PAGE_BYTES / 1e6,
	        (double)progress->bytes_per_second / 1e6);
	if (progress->predicted_pause_ns)
		fprintf(stderr, ", predicted pause %.1f ms", (double)progress->predicted_pause_ns / 1e6);
	fputs(end, stderr);
	fflush(stderr);
}

static void tell_waiting(struct migrate_watcher *watcher, const struct error *last, unsigned next_s)
{
	const struct teller *teller = (struct teller *)watcher;
	auto_free char *why = error_line(last);

	fprintf(stderr,
	        "%sthe program stands still until the other host says whether it runs there; it can't be asked: %s; "
	        "again in %u s (SIGQUIT leaves it to godwit resolve)\n",
	        teller->is_terminal ? "\x1b[K" : "", why, next_s);
	fflush(stderr);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static const char *outcome_text(const struct migrate_command *migrate, enum migrate_outcome outcome)
{
	switch (outcome) {
	case MIGRATE_RUNS_HERE:
		return program_is_there(migrate->common.pid) ? "The program runs on here."
		                                             : "The program is not there.";
	case MIGRATE_RUNS_THERE:
		return "The program runs at the destination.";
	case MIGRATE_UNDECIDED:
		return "The program stands still here until it is known whether it runs at the destination: godwit "
		       "resolve asks.";
	}
	return "";
}

static void print_summary(const struct migrate_command *migrate, const struct migrate_statistics *statistics)
{
	printf("moved process %d to %s: pause %.1f ms, %u round%s, %.1f MB, %.2f s\n", migrate->common.pid,
	       migrate->destination, ms(statistics->pause_ns), statistics->rounds, statistics->rounds == 1 ? "" : "s",
	       (double)statistics->sent_bytes / 1e6,
	       ms(statistics->check_ns + statistics->rounds_ns + statistics->pause_ns) / 1e3);
	if (statistics->pid_there && statistics->pid_there != migrate->common.pid)
		printf("there: process %d; for itself it is what it was here\n", statistics->pid_there);
	printf("before: check and preparation %.1f, rounds %.1f ms%s%s\n", ms(statistics->check_ns),
	       ms(statistics->rounds_ns), statistics->tracked_by ? ", written pages told by " : "",
	       statistics->tracked_by ? statistics->tracked_by : "");
	printf("pause: stop %.1f, areas %.1f, pages %.1f, state %.1f, connections %.1f, over there %.1f, commit %.1f, "
	       "go %.1f ms; %" PRIu64 " packets dropped\n",
	       ms(statistics->stop_ns), ms(statistics->areas_ns), ms(statistics->pages_ns), ms(statistics->state_ns),
	       ms(statistics->connections_ns), ms(statistics->ready_ns), ms(statistics->commit_ns),
	       ms(statistics->go_ns), statistics->dropped_packets);
}

static const char *outcome_word(enum migrate_outcome outcome)
{
	switch (outcome) {
	case MIGRATE_RUNS_HERE:
		return "here";
	case MIGRATE_RUNS_THERE:
		return "destination";
	case MIGRATE_UNDECIDED:
		return "undecided";
	}
	abort();
}

static void add_statistics(struct report *report, const struct migrate_statistics *statistics)
{
	report_number(report, "pid_there", (uint64_t)statistics->pid_there);
	report_ms(report, "pause_ms", statistics->pause_ns);
	report_number(report, "rounds", statistics->rounds);
	report_text(report, "tracked_by", statistics->tracked_by);
	report_number(report, "sent_bytes", statistics->sent_bytes);
	report_number(report, "dropped_packets", statistics->dropped_packets);
	report_ms(report, "check_ms", statistics->check_ns);
	report_ms(report, "rounds_ms", statistics->rounds_ns);
	report_ms(report, "stop_ms", statistics->stop_ns);
	report_ms(report, "areas_ms", statistics->areas_ns);
	report_ms(report, "pages_ms", statistics->pages_ns);
	report_ms(report, "state_ms", statistics->state_ns);
	report_ms(report, "connections_ms", statistics->connections_ns);
	report_ms(report, "ready_ms", statistics->ready_ns);
	report_ms(report, "commit_ms", statistics->commit_ns);
	report_ms(report, "go_ms", statistics->go_ns);
}

/* ---- The command ---- */

static struct error *check_options(const struct migrate_command *migrate)
{
	bool is_tls = strncmp(migrate->destination, "tls://", 6) == 0;

	if (is_tls && !migrate->key)
		return error_hint(error_new(0, "tls:// needs a key"), "--key FILE names it");
	if (is_tls && migrate->remote_option_count > 0)
		return error_hint(error_new(0, "--remote-option is for ssh"),
		                  "give the option to godwit receive on the other host");
	return common_check(&migrate->common);
}

static struct error *take_arguments(struct migrate_command *migrate, int argc, char **argv, int first)
{
	if (argc - first != 2)
		return error_hint(
			error_new(0, "%s",
		                  argc - first < 2 ? "a program and a destination are needed" : "too many arguments"),
			"godwit migrate PID [USER@]HOST, or godwit migrate PID tls://HOST:PORT --key FILE");
	migrate->destination = argv[first + 1];
	TRY(parse_pid(argv[first], &migrate->common.pid));
	return check_options(migrate);
}

/* Who will see the copy here end: told before anything is done, since that one may start the program again. */
static struct error *look_at_supervisor(const struct migrate_command *command, struct supervisor *supervisor,
                                        struct report *report)
{
	supervisor_look(command->common.pid, command->exit_status, supervisor);
	if (command->stops_unit && !supervisor->unit)
		return error_hint(error_new(0, "process %d is in no unit of systemd that --stop-unit could stop",
		                            command->common.pid),
		                  "/proc/%d/cgroup tells where it is", command->common.pid);
	supervision_tell(supervisor,
	                 command->stops_unit ? "the unit is stopped when the program runs over there"
	                 : supervisor->unit  ? "--stop-unit stops it when the program runs over there"
	                                     : "do that before the program is moved",
	                 false, report);
	return NULL;
}

static struct error *move(struct migrate_command *command, struct log *log, const char *stop_unit,
                          enum migrate_outcome *ret_outcome, struct migrate_statistics *ret_statistics)
{
	struct teller teller = {
		.watcher = {.progress = tell, .waiting = tell_waiting},
		.is_terminal = isatty(STDERR_FILENO),
	};
	auto_free char *remote_options = channel_quote(command->remote_options, command->remote_option_count);
	const struct migrate_options options = {
		.pid = command->common.pid,
		.route =
			{
				.destination = command->destination,
				.ssh = command->ssh,
				.remote_path = command->remote_path,
				.remote_options = remote_options,
				.key = command->key,
			},
		.state_dir = command->state_dir,
		.limits = {.max_downtime_ms = (unsigned)command->max_downtime_ms,
	                   .max_freeze_ms = (unsigned)command->max_freeze_ms,
	                   .max_rounds = (unsigned)command->max_rounds},
		.track = command->track,
		.exit_status = command->exit_status,
		.stop_unit = stop_unit,
		.cpu_caps = command->common.cpu_caps,
		.new_pids = command->common.has_new_pids,
		.addresses = command->addresses,
		.address_count = command->address_count,
		.wait_children_ns = command->common.wait_children_s * 1000000000,
		.carry = command->common.carry,
		.watcher = &teller.watcher,
		.hooks = scripts_hooks(&command->common.scripts),
		.log = log,
	};

	signals_block();
	struct error *error = migrate_run(&options, ret_outcome, ret_statistics);
	if (teller.is_terminal)
		fputs("\x1b[K", stderr);
	return error;
}

static struct error *look_and_move(struct migrate_command *command, struct report *report,
                                   enum migrate_outcome *ret_outcome, struct migrate_statistics *ret_statistics)
{
	auto_supervisor struct supervisor supervisor = {0};

	TRY(check_program(command->common.pid));
	TRY(look_at_supervisor(command, &supervisor, report));
	return move(command, report_log(report), command->stops_unit ? supervisor.unit : NULL, ret_outcome,
	            ret_statistics);
}

static int migrate(struct migrate_command *command, struct report *report)
{
	enum migrate_outcome outcome = MIGRATE_RUNS_HERE;
	struct migrate_statistics statistics = {0};
	struct error *error = error_wrap(look_and_move(command, report, &outcome, &statistics),
	                                 "cannot move process %d to %s", command->common.pid, command->destination);

	sweep_locks(report_log(report));
	report_number(report, "pid", (uint64_t)command->common.pid);
	report_text(report, "destination", command->destination);
	report_text(report, "runs", outcome_word(outcome));
	add_statistics(report, &statistics);
	report_text(report, "warning", statistics.warning);
	if (statistics.warning)
		fprintf(stderr, "warning: %s\n", statistics.warning);
	free(statistics.warning);
	if (!error && !command->common.is_json)
		print_summary(command, &statistics);
	int status = report_end(report, error, outcome_text(command, outcome));
	return outcome == MIGRATE_UNDECIDED ? EXIT_UNDECIDED : status;
}

static int run_migrate(const struct command *command, int argc, char **argv)
{
	struct migrate_command options = {
		.common = common_defaults,
		.ssh = "ssh",
		.remote_path = "godwit",
		.state_dir = "/var/lib/godwit",
		.max_downtime_ms = 20,
		.max_freeze_ms = 2000,
		.max_rounds = 30,
	};
	auto_report struct report *report = NULL;
	bool is_help;
	int first;

	options.common.carry.tcp_established = true;
	struct error *error = options_parse(command, argc, argv, &options, &first, &is_help);
	if (!error && !is_help)
		error = take_arguments(&options, argc, argv, first);
	if (!error && !is_help)
		error = common_report(&options.common, command, &report);
	if (error || is_help)
		return usage_status(error);
	return migrate(&options, report);
}

const struct command migrate_command = {
	.name = "migrate",
	.arguments = "PID DESTINATION",
	.summary = "Moves a running program to another host: [user@]host by ssh, or tls://host:port.",
	.options = migrate_table,
	.run = run_migrate,
};
