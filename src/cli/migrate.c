/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit migrate: moves a running program to another host. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "migrate/source.h"
#include "util/alloc.h"

enum { ADDRESSES_MAX = 64, ROUNDS_MAX = 1000, MILLISECONDS_MAX = 600000 };

struct migrate_command {
	struct common_options common; /* first: setters of common options are given this */
	const char *destination, *ssh, *remote_path, *key, *state_dir;
	uint64_t max_downtime_ms, max_freeze_ms, max_rounds;
	int exit_status;
	const char *addresses[ADDRESSES_MAX];
	size_t address_count;
	bool is_json;
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

static struct error *set_json(void *options, const char *value)
{
	(void)value;
	((struct migrate_command *)options)->is_json = true;
	return NULL;
}

static const struct option_spec migrate_table[] = {
	{"max-downtime", 0, "MS", "stop for the last round when it would take this long (default: 20)",
         set_max_downtime},
	{"max-freeze", 0, "MS", "give up, and let it run on here, after this long (default: 2000)", set_max_freeze},
	{"max-rounds", 0, "N", "send memory in at most N rounds while it runs (default: 30)", set_max_rounds},
	{"move-address", 0, "ADDR[/PREFIX]", "an IP address that moves along; may be given again", set_move_address},
	{"ssh", 0, "COMMAND", "how to call ssh (default: ssh)", set_ssh},
	{"remote-path", 0, "COMMAND", "how to call godwit on the other host (default: godwit)", set_remote_path},
	{"key", 0, "FILE", "the key for tls://, which both hosts have", set_key},
	{"source-exit", 0, "KILL|N", "how the copy here ends: SIGKILL, or exit status N (default: 0)", set_source_exit},
	{"state-dir", 0, "DIR", "folder of the journal (default: /var/lib/godwit)", set_state_dir},
	{"shell-job", 'j', NULL, "the program belongs to a shell's session, which stays", set_shell_job},
	{"ghost-limit", 0, "SIZE", "largest deleted file to take along (default: 1M)", set_ghost_limit},
	{"json", 0, NULL, "tell the end as JSON", set_json},
	{0},
};

/* ---- Connecting ---- */

static struct error *connect_destination(const struct migrate_options *options, struct channel **ret_channel)
{
	const struct migrate_command *migrate = options->connect_data;
	static const char scheme[] = "tls://";
	uint8_t key[CHANNEL_KEY_BYTES];

	if (strncmp(migrate->destination, scheme, strlen(scheme)) == 0) {
		TRY(channel_read_key(migrate->key, key));
		return channel_connect_tls(migrate->destination + strlen(scheme), key, ret_channel);
	}
	const struct ssh_target target = {
		.command = migrate->ssh,
		.host = migrate->destination,
		.remote_path = migrate->remote_path,
	};
	return channel_over_ssh(&target, ret_channel);
}

/* ---- Telling ---- */

struct teller {
	struct migrate_watcher watcher;
	bool is_terminal;
};

/* A line that is written over on a terminal; else one each. Never in the freeze: that has no progress to tell. */
static void tell(struct migrate_watcher *watcher, const struct migrate_progress *progress)
{
	const struct teller *teller = (struct teller *)watcher;
	const char *end = teller->is_terminal ? "\x1b[K\r" : "\n";

	if (progress->round == 0)
		fprintf(stderr, "%s%s", progress->phase, end);
	else
		fprintf(stderr,
		        "%s %u: %.1f MB sent at %.0f MB/s, %.1f MB written meanwhile, predicted pause %.1f ms%s",
		        progress->phase, progress->round, (double)progress->sent_bytes / 1e6,
		        (double)progress->bytes_per_second / 1e6, (double)progress->left_pages * 4096 / 1e6,
		        (double)progress->predicted_pause_ns / 1e6, end);
	fflush(stderr);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static const char *outcome_text(enum migrate_outcome outcome)
{
	switch (outcome) {
	case MIGRATE_RUNS_HERE:
		return "The program runs on here.";
	case MIGRATE_RUNS_THERE:
		return "The program runs at the destination.";
	case MIGRATE_UNDECIDED:
		return "The program stands still here until it is known whether it runs at the destination.";
	}
	return "";
}

static void print_summary(const struct migrate_command *migrate, const struct migrate_statistics *statistics)
{
	printf("moved process %d to %s: pause %.1f ms, %u rounds, %.1f MB, %.2f s\n", migrate->common.pid,
	       migrate->destination, ms(statistics->pause_ns), statistics->rounds, (double)statistics->sent_bytes / 1e6,
	       ms(statistics->check_ns + statistics->rounds_ns + statistics->pause_ns) / 1e3);
	printf("pause: stop %.1f, areas %.1f, pages %.1f, state %.1f, connections %.1f, over there %.1f, commit %.1f, "
	       "go %.1f ms; %" PRIu64 " packets dropped\n",
	       ms(statistics->stop_ns), ms(statistics->areas_ns), ms(statistics->pages_ns), ms(statistics->state_ns),
	       ms(statistics->connections_ns), ms(statistics->ready_ns), ms(statistics->commit_ns),
	       ms(statistics->go_ns), statistics->dropped_packets);
}

static void print_json(const struct migrate_command *migrate, enum migrate_outcome outcome, const struct error *error,
                       const struct migrate_statistics *statistics)
{
	static const char *const outcomes[] = {
		[MIGRATE_RUNS_HERE] = "here",
		[MIGRATE_RUNS_THERE] = "destination",
		[MIGRATE_UNDECIDED] = "undecided",
	};
	struct json_object *root = json_object_new_object();
	auto_free char *text = error ? error_line(error) : NULL;
	auto_free char *hints = error ? error_hints(error) : NULL;

	json_object_object_add(root, "pid", json_object_new_int(migrate->common.pid));
	json_object_object_add(root, "destination", json_object_new_string(migrate->destination));
	json_object_object_add(root, "runs", json_object_new_string(outcomes[outcome]));
	json_object_object_add(root, "error", text ? json_object_new_string(text) : NULL);
	json_object_object_add(root, "hint", hints ? json_object_new_string(hints) : NULL);
	json_object_object_add(root, "pause_ms", json_object_new_double(ms(statistics->pause_ns)));
	json_object_object_add(root, "rounds", json_object_new_int((int)statistics->rounds));
	json_object_object_add(root, "sent_bytes", json_object_new_int64((int64_t)statistics->sent_bytes));
	json_object_object_add(root, "dropped_packets", json_object_new_int64((int64_t)statistics->dropped_packets));
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}

/* ---- The command ---- */

static struct error *check_options(const struct migrate_command *migrate)
{
	if (strncmp(migrate->destination, "tls://", 6) == 0 && !migrate->key)
		return error_hint(error_new(0, "tls:// needs a key"), "--key FILE names it");
	return check_program(migrate->common.pid);
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

static int migrate(const struct migrate_command *command)
{
	struct teller teller = {.watcher.progress = tell, .is_terminal = isatty(STDERR_FILENO)};
	enum migrate_outcome outcome;
	struct migrate_statistics statistics;
	sigset_t stops;
	const struct migrate_options options = {
		.pid = command->common.pid,
		.destination = command->destination,
		.state_dir = command->state_dir,
		.max_downtime_ms = (unsigned)command->max_downtime_ms,
		.max_freeze_ms = (unsigned)command->max_freeze_ms,
		.max_rounds = (unsigned)command->max_rounds,
		.exit_status = command->exit_status,
		.addresses = command->addresses,
		.address_count = command->address_count,
		.carry = command->common.carry,
		.watcher = &teller.watcher,
		.connect = connect_destination,
		.connect_data = command,
	};

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	sigprocmask(SIG_BLOCK, &stops, NULL);
	struct error *error = migrate_run(&options, &outcome, &statistics);
	if (teller.is_terminal)
		fputs("\x1b[K", stderr);
	if (command->is_json)
		print_json(command, outcome, error, &statistics);
	if (error)
		return failure_status(
			error_wrap(error, "cannot move process %d to %s", command->common.pid, command->destination),
			outcome_text(outcome), NULL);
	if (!command->is_json)
		print_summary(command, &statistics);
	return EXIT_SUCCESS;
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
	bool is_help;
	int first;

	options.common.carry.tcp_established = true;
	struct error *error = options_parse(command, argc, argv, &options, &first, &is_help);
	if (!error && !is_help)
		error = take_arguments(&options, argc, argv, first);
	if (error || is_help)
		return usage_status(error);
	return migrate(&options);
}

const struct command migrate_command = {
	.name = "migrate",
	.arguments = "PID DESTINATION",
	.summary = "Moves a running program to another host: [user@]host by ssh, or tls://host:port.",
	.options = migrate_table,
	.run = run_migrate,
};
