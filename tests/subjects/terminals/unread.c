/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What waits in pseudoterminals. In lines: some complete, one that end of file ends, an end of file alone, the beginning
 * of one, and their echo. Not in lines: all bytes that there are, and more than goes through the line discipline before
 * somebody reads: the rest is processed later, and all exactly once. What waits to be read from masters.
 *
 * The traps: reading makes one line of all; the echo must not come twice; swapping characters twice is no swapping.
 */
#include "pty.h"

enum { ERASE = 0x7f, ALL_BYTES = 256, MANY_BYTES = 7000, OUTPUT_BYTES = 9000 };

struct ptys {
	struct pty lines, raw, full;
};

static unsigned char any_byte(size_t index)
{
	return (unsigned char)index;
}

static unsigned char output_byte(size_t index)
{
	return (unsigned char)(index * 7 % 251);
}

/* Carriage returns and line feeds, in no regular order, and others. */
static unsigned char typed_byte(size_t index)
{
	static const char set[] = "\rab\n\r\rcd\ne\nf\r";

	return (unsigned char)set[index * index % 13];
}

static unsigned char swapped_byte(size_t index)
{
	unsigned char byte = typed_byte(index);

	return byte == '\r' ? '\n' : byte == '\n' ? '\r' : byte;
}

static void write_all(const struct subject *subject, int fd, unsigned char (*byte_at)(size_t index), size_t count)
{
	static unsigned char bytes[OUTPUT_BYTES];

	for (size_t i = 0; i < count; i++)
		bytes[i] = byte_at(i);
	pty_write(subject, fd, bytes, count);
}

static void make(const struct subject *subject, struct ptys *ptys)
{
	static const char typed[] = "first\nsecond\npart\004\004ha lf";
	struct pty *all[] = {&ptys->lines, &ptys->raw, &ptys->full};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		pty_new(subject, all[i]);
		all[i]->slave = pty_open(subject, all[i]);
	}
	pty_set(subject, ptys->lines.slave, 0, ICANON | ECHO | ECHOE);
	pty_write(subject, ptys->lines.master, typed, sizeof(typed) - 1);
	pty_wait(subject, ptys->lines.master, sizeof(typed) - 3);
	pty_check_read(subject, "echo before", ptys->lines.master, "first\nsecond\npartha lf", 22);
	pty_write(subject, ptys->lines.slave, "prompt> ", 8);

	pty_set(subject, ptys->raw.slave, 0, 0);
	write_all(subject, ptys->raw.master, any_byte, ALL_BYTES);
	write_all(subject, ptys->raw.slave, output_byte, OUTPUT_BYTES);

	pty_set(subject, ptys->full.slave, ICRNL | INLCR, 0);
	write_all(subject, ptys->full.master, typed_byte, MANY_BYTES);
}

static void check_lines(const struct subject *subject, const struct pty *pty)
{
	const char more[] = {ERASE, ERASE, '!', '\n'};

	pty_check_read(subject, "output behind the echo", pty->master, "prompt> ", 8);
	if (pty_has(pty->master, POLLIN, 0))
		subject_fail(subject, "an echo that the program had read");
	pty_check_read(subject, "first line", pty->slave, "first\n", 6);
	pty_check_read(subject, "second line", pty->slave, "second\n", 7);
	pty_check_read(subject, "line that end of file ended", pty->slave, "part", 4);
	pty_check_read(subject, "end of file", pty->slave, "", 0);
	if (pty_has(pty->slave, POLLIN, 0))
		subject_fail(subject, "the beginning of a line can be read");
	pty_write(subject, pty->master, more, sizeof(more));
	pty_check_read(subject, "line that was typed in two parts", pty->slave, "ha !\n", 5);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct ptys ptys;

	make(&subject, &ptys);

	subject_ready(&subject);

	check_lines(&subject, &ptys.lines);
	pty_check_stream(&subject, "all bytes", ptys.raw.slave, any_byte, ALL_BYTES);
	pty_check_stream(&subject, "output", ptys.raw.master, output_byte, OUTPUT_BYTES);
	pty_check_stream(&subject, "more than fits", ptys.full.slave, swapped_byte, MANY_BYTES);
	return subject_pass(&subject);
}
