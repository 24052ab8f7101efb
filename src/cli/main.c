/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit COMMAND: finds the command and runs it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/restore/pid_space.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "version.h"

static const struct command *const commands[] = {
	&dump_command,    &predump_command, &restore_command, &migrate_command,
	&receive_command, &resolve_command, &check_command,
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
	fputs("usage: godwit COMMAND [OPTION]...\n\n"
	      "Moves running programs from one machine to another, saves them and brings them back.\n\n",
	      out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\ngodwit COMMAND --help lists the options of a command.\n", out);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "--help";

	if (argc > 0 && strcmp(argv[0], PID_SPACE_INIT) == 0)
		return pid_space_be_init(argc, argv);
	signal(SIGCHLD, SIG_DFL); /* where a parent ignores it children of ours couldn't be waited for: wait(2) */
	signal(SIGPIPE, SIG_IGN); /* a peer or reader that has gone is an error like others */
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		puts("godwit " GODWIT_VERSION);
		return EXIT_SUCCESS;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		print_help(argc > 1 ? stdout : stderr);
		return argc > 1 ? EXIT_SUCCESS : EXIT_USAGE;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(name, commands[i]->name) == 0)
			return commands[i]->run(commands[i], argc - 1, argv + 1);
	return usage_status(error_hint(error_new(0, "unknown command %s", name), "godwit --help lists the commands"));
}
