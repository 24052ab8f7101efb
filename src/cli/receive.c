/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit receive: the other end of godwit migrate, over standard input and output or listening. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "migrate/destination.h"
#include "util/alloc.h"

struct receive_command {
	struct common_options common; /* first: setters of common options are given this */
	const char *listen, *key, *state_dir;
	bool is_once;
};

static struct error *set_listen(void *options, const char *value)
{
	((struct receive_command *)options)->listen = value;
	return NULL;
}

static struct error *set_key(void *options, const char *value)
{
	((struct receive_command *)options)->key = value;
	return NULL;
}

static struct error *set_state_dir(void *options, const char *value)
{
	((struct receive_command *)options)->state_dir = value;
	return *value ? NULL : error_new(0, "empty");
}

static struct error *set_once(void *options, const char *value)
{
	(void)value;
	((struct receive_command *)options)->is_once = true;
	return NULL;
}

static const struct option_spec receive_table[] = {
	{"listen", 0, "ADDR:PORT", "listen for tls:// connections, instead of standard input", set_listen},
	{"key", 0, "FILE", "the key, which both hosts have: 64 hex digits", set_key},
	{"once", 0, NULL, "end after one connection", set_once},
	{"state-dir", 0, "DIR", "folder of the journal (default: /var/lib/godwit)", set_state_dir},
	COMMON_REPORT,
	{0},
};

/* ---- One connection ---- */

/* Consumes channel. */
static struct error *take_program(struct receive_command *receive, struct channel *connection, struct log *log,
                                  struct received *ret_received)
{
	auto_channel struct channel *channel = connection;
	const struct receive_options options = {
		.state_dir = receive->state_dir,
		.hooks = scripts_hooks(&receive->common.scripts),
		.log = log,
	};

	return receive_run(channel, &options, ret_received);
}

/* Consumes channel and error, why there is none. */
static int serve(struct receive_command *receive, struct channel *channel, struct error *error)
{
	auto_report struct report *report = NULL;
	struct received received = {0};

	error = error_join(error, common_report(&receive->common, &receive_command, &report));
	if (!report) {
		channel_free(channel);
		return usage_status(error);
	}
	if (!error)
		error = take_program(receive, take(channel), report_log(report), &received);
	channel_free(channel);
	sweep_locks(report_log(report));
	/* Over ssh our standard error is the source's, which says the same, or has gone and so has its reason. */
	if (error && !receive->listen && (received.is_told || error_errnum(error) == ECONNRESET))
		report_leave_to_others(report);
	if (received.warning)
		fprintf(stderr, "warning: process %d runs here, but: %s\n", received.pid, received.warning);
	report_number(report, "pid", (uint64_t)received.pid);
	report_text(report, "warning", received.warning);
	free(received.warning);
	return report_end(report, error, received.pid ? "The program runs here." : "No program was left here.");
}

/* ssh(1) has connected our standard input and output with the other host. Nothing else may be written there. */
static int serve_standard_streams(struct receive_command *receive)
{
	int input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	int output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

	if (input < 0 || output < 0)
		return usage_status(error_new(errno, "standard input and output"));
	dup2(STDERR_FILENO, STDOUT_FILENO);
	return serve(receive, channel_over_fds(input, output), NULL);
}

/* ---- Listening ---- */

static int serve_tls(struct receive_command *receive, int fd, const uint8_t key[CHANNEL_KEY_BYTES])
{
	struct channel *channel = NULL;
	struct error *error = channel_accept_tls(fd, key, &channel);

	return serve(receive, channel, error);
}

/* Each connection in a process of its own: it makes the program, whose clocks and parent are its own. */
static void serve_in_child(struct receive_command *receive, int listening, int fd, const uint8_t key[CHANNEL_KEY_BYTES])
{
	pid_t child = fork();

	if (child == 0) {
		close(listening);
		signal(SIGCHLD, SIG_DFL);
		_exit(serve_tls(receive, fd, key));
	}
	if (child < 0)
		fprintf(stderr, "error: fork: %s\n", strerrordesc_np(errno));
	close(fd);
}

static int serve_listening(struct receive_command *receive)
{
	uint8_t key[CHANNEL_KEY_BYTES];
	int listening = -1;
	struct error *error = channel_read_key(receive->key, key);

	if (!error)
		error = channel_listen(receive->listen, &listening);
	if (error)
		return usage_status(error);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for the children */
	for (;;) {
		int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			return usage_status(error_new(errno, "accept"));
		if (fd < 0)
			continue;
		if (!receive->is_once) {
			serve_in_child(receive, listening, fd, key);
			continue;
		}
		close(listening);
		signal(SIGCHLD, SIG_DFL);
		return serve_tls(receive, fd, key);
	}
}

/* ---- The command ---- */

/* What ssh(1) gives us: pipes or sockets. A user who calls this has a terminal, a service /dev/null. */
static bool is_connection(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) == 0 && (S_ISFIFO(stat.st_mode) || S_ISSOCK(stat.st_mode));
}

static struct error *check_options(const struct receive_command *receive)
{
	if (receive->listen && !receive->key)
		return error_hint(error_new(0, "--listen needs a key"), "--key FILE names it");
	if (!receive->listen && (receive->key || receive->is_once))
		return error_new(0, "--key and --once are for --listen");
	if (!receive->listen && !is_connection(STDIN_FILENO))
		return error_hint(
			error_new(0, "standard input is no connection"),
			"godwit migrate PID HOST calls this over ssh; --listen ADDR:PORT waits for connections");
	return NULL;
}

static int run_receive(const struct command *command, int argc, char **argv)
{
	struct receive_command receive = {.common = common_defaults, .state_dir = "/var/lib/godwit"};
	bool is_help;
	int first;

	receive.common.is_log_appended = true; /* by each connection */
	struct error *error = options_parse(command, argc, argv, &receive, &first, &is_help);

	if (!error && !is_help)
		error = check_options(&receive);
	if (error || is_help)
		return usage_status(error);
	return receive.listen ? serve_listening(&receive) : serve_standard_streams(&receive);
}

const struct command receive_command = {
	.name = "receive",
	.summary = "Takes a program from another host: what godwit migrate talks to.",
	.options = receive_table,
	.run = run_receive,
};
