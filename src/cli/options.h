/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Options of a command: one table for each, from which they are parsed and --help is printed. Names, short forms and
 * meanings are CRIU's where CRIU has them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

struct option_spec {
	const char *name;     /* without the dashes; NULL ends a table */
	char letter;          /* 0: no short form */
	const char *argument; /* as --help calls it; NULL: takes none; in brackets: may be left out */
	const char *help;
	/* Takes the value (NULL: none was given) into the command's options. */
	struct error *(*set)(void *options, const char *value);
};

struct command {
	const char *name;
	const char *arguments; /* what stands behind the options, for --help; NULL: nothing may */
	const char *summary;
	const struct option_spec *options;
	/* What is wrong with them together, or what is missing. NULL: nothing can be. */
	struct error *(*check)(const void *options);
	/* Returns the exit status. argv holds the command's own arguments, its name first. */
	int (*run)(const struct command *command, int argc, char **argv);
};

/*
 * Parses argv into options by command's table. *ret_first is the index of the first argument that is no option. Prints
 * help and sets *ret_is_help where that was asked for. An error tells what is wrong with the command line.
 */
MUST_USE struct error *options_parse(const struct command *command, int argc, char **argv, void *options,
                                     int *ret_first, bool *ret_is_help);

/* Values: "812"; "10", "10K", "1M", "2G"; "0" to "4". */
MUST_USE struct error *parse_pid(const char *text, pid_t *ret_pid);
MUST_USE struct error *parse_size(const char *text, uint64_t *ret_bytes);
MUST_USE struct error *parse_number(const char *text, uint64_t max, uint64_t *ret_number);
