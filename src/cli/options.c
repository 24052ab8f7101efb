/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/criu_options.h"
#include "cli/options.h"
#include "util/alloc.h"

enum {
	FIRST_ID = 256, /* of options, above all letters */
	HELP_ID = 'h',
	HELP_COLUMN = 34,
};

static size_t count_options(const struct option_spec *specs)
{
	size_t count = 0;

	while (specs[count].name)
		count++;
	return count;
}

static int has_argument(const struct option_spec *spec)
{
	if (!spec->argument)
		return no_argument;
	return spec->argument[0] == '[' ? optional_argument : required_argument;
}

/* ---- --help ---- */

static void print_option(const struct option_spec *spec)
{
	auto_free char *letter = spec->letter ? xformat("-%c, ", spec->letter) : xformat("    ");
	const char *between = !spec->argument || spec->argument[0] == '[' ? "" : " ";
	auto_free char *left =
		xformat("  %s--%s%s%s", letter, spec->name, between, spec->argument ? spec->argument : "");

	if (strlen(left) >= HELP_COLUMN)
		printf("%s\n%*s%s\n", left, HELP_COLUMN, "", spec->help);
	else
		printf("%-*s%s\n", HELP_COLUMN, left, spec->help);
}

static void print_help(const struct command *command)
{
	printf("usage: godwit %s [OPTION]...%s%s\n\n%s\n\n", command->name, command->arguments ? " " : "",
	       command->arguments ? command->arguments : "", command->summary);
	for (const struct option_spec *spec = command->options; spec->name; spec++)
		print_option(spec);
	printf("%-*s%s\n", HELP_COLUMN, "  -h, --help", "print this");
	printf("\ngodwit-%s(1) tells more.\n", command->name);
}

/* ---- Parsing ---- */

/* What getopt_long(3) works with; both owned by the caller. */
struct tables {
	struct option *longs;
	char *letters;
};

static void tables_free(struct tables *tables)
{
	free(tables->longs);
	free(tables->letters);
}

static void make_tables(const struct option_spec *specs, struct tables *tables)
{
	size_t count = count_options(specs);
	/* ":" first: a missing argument is told apart from an unknown option, and nothing is printed. */
	char *next;

	tables->longs = xalloc((count + 2) * sizeof(*tables->longs));
	tables->letters = xalloc(count * 3 + 3);
	next = tables->letters;
	*next++ = ':';
	*next++ = HELP_ID;
	for (size_t i = 0; i < count; i++) {
		tables->longs[i] = (struct option){
			.name = specs[i].name,
			.has_arg = has_argument(&specs[i]),
			.val = FIRST_ID + (int)i,
		};
		if (!specs[i].letter)
			continue;
		*next++ = specs[i].letter;
		for (int colons = has_argument(&specs[i]); colons > 0; colons--)
			*next++ = ':';
	}
	tables->longs[count] = (struct option){.name = "help", .val = HELP_ID};
}

static const struct option_spec *find_spec(const struct option_spec *specs, int id)
{
	if (id >= FIRST_ID)
		return &specs[id - FIRST_ID];
	for (const struct option_spec *spec = specs; spec->name; spec++)
		if (spec->letter == id)
			return spec;
	return NULL;
}

/* "--name=value" and "-n" without all but the name. The caller frees. */
static char *option_name(const char *word)
{
	word += strspn(word, "-");
	return xformat("%.*s", (int)strcspn(word, "="), word);
}

static struct error *complain(const struct command *command, int id, char **argv)
{
	const char *word = argv[optind - 1];

	/* A wrong letter may stand in the middle of its word, and then optind is on that. */
	auto_free char *letter = optopt > 0 && optopt < FIRST_ID ? xformat("-%c", optopt) : NULL;
	if (id == ':')
		return error_new(0, "option %s needs an argument", letter ? letter : word);
	auto_free char *name = option_name(letter ? letter : word);
	const char *advice = criu_option_advice(name);
	if (advice)
		return error_hint(error_new(0, "option %s is CRIU's, and not one of godwit %s", letter ? letter : word,
		                            command->name),
		                  "%s", advice);
	return error_hint(error_new(0, "unknown option %s", letter ? letter : word),
	                  "godwit %s --help lists the options", command->name);
}

struct error *options_parse(const struct command *command, int argc, char **argv, void *options, int *ret_first,
                            bool *ret_is_help)
{
	__attribute__((cleanup(tables_free))) struct tables tables = {0};

	make_tables(command->options, &tables);
	*ret_is_help = false;
	optind = 0; /* from the start, whoever used getopt before: getopt(3) */
	opterr = 0;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads yet */
	for (int id; (id = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1;) {
		if (id == HELP_ID) {
			print_help(command);
			*ret_is_help = true;
			return NULL;
		}
		const struct option_spec *spec = id == '?' || id == ':' ? NULL : find_spec(command->options, id);
		if (!spec)
			return complain(command, id, argv);
		TRY(spec->set(options, optarg), "option --%s", spec->name);
	}
	*ret_first = optind;
	if (!command->arguments && optind < argc)
		return error_hint(error_new(0, "\"%s\" is no option", argv[optind]),
		                  "godwit %s --help lists the options", command->name);
	return NULL;
}

/* ---- Values ---- */

struct error *parse_number(const char *text, uint64_t max, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0')
		return error_new(0, "\"%s\" is no number", text);
	if (errno || number > max)
		return error_new(0, "%s is more than %llu", text, (unsigned long long)max);
	*ret_number = number;
	return NULL;
}

struct error *parse_pid(const char *text, pid_t *ret_pid)
{
	uint64_t number;

	if (text[0] < '0' || text[0] > '9')
		return error_hint(error_new(0, "\"%s\" is no PID", text), "pgrep -a %s finds programs by name", text);
	TRY(parse_number(text, INT32_MAX, &number));
	if (number == 0)
		return error_new(0, "there is no PID 0");
	*ret_pid = (pid_t)number;
	return NULL;
}

struct error *parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMG";
	size_t length = strlen(text);
	const char *unit = length > 0 ? strchr(units, text[length - 1]) : NULL;
	unsigned shift = unit && *unit ? 10 * (unsigned)(unit - units + 1) : 0;
	auto_free char *digits = xformat("%.*s", (int)(length - (shift > 0)), text);
	uint64_t number;

	TRY(parse_number(digits, UINT64_MAX >> shift, &number));
	*ret_bytes = number << shift;
	return NULL;
}
