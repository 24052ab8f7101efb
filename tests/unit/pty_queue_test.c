/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What is under way in a pseudoterminal, taken and put back by two who share the pipes: the first may die anywhere. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lib/unit.h"
#include "objects/pty_queue.h"

enum { WAIT_MS = 10000, LINES = 150 };

/* Its terminal is in canonical mode, without echo. *ret_slave is for the caller to close. */
static struct pty *new_pty(int *ret_slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct pty *pty;
	struct termios2 termios;

	assert_true(master >= 0);
	assert_int_equal(unlockpt(master), 0);
	*ret_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(*ret_slave >= 0);
	assert_int_equal(ioctl(master, TCGETS2, &termios), 0);
	termios.c_lflag = ICANON;
	assert_int_equal(ioctl(master, TCSETS2, &termios), 0);
	assert_ok(pty_open(master, &pty));
	return pty;
}

static void type(const struct pty *pty, const char *text)
{
	assert_int_equal(write(pty->master, text, strlen(text)), strlen(text));
}

static void wait_for_bytes(int slave, int expected)
{
	int bytes = 0;

	for (int waited_ms = 0; bytes != expected && waited_ms < WAIT_MS; waited_ms++) {
		assert_int_equal(ioctl(slave, FIONREAD, &bytes), 0);
		usleep(1000);
	}
	assert_int_equal(bytes, expected);
}

static void check_line(int slave, const char *expected)
{
	struct pollfd polled = {.fd = slave, .events = POLLIN};
	char line[64] = "";

	assert_int_equal(poll(&polled, 1, WAIT_MS), 1);
	assert_int_equal(read(slave, line, sizeof(line) - 1), strlen(expected));
	assert_string_equal(line, expected);
}

static void test_what_is_taken_comes_back(void **state)
{
	auto_fd int slave = -1;
	auto_pty struct pty *pty = new_pty(&slave);

	(void)state;
	type(pty, "one\ntwo\004\004half");
	assert_ok(pty_take(pty));
	assert_int_equal(pty->state->line_count, 3);
	assert_ok(pty_put_back(pty));
	assert_false(pty_is_apart(pty));
	check_line(slave, "one\n");
	check_line(slave, "two");
	check_line(slave, "");
	type(pty, "way\n");
	check_line(slave, "halfway\n");
}

static void test_many_lines_fit_into_the_pipe(void **state)
{
	auto_fd int slave = -1;
	auto_pty struct pty *pty = new_pty(&slave);

	(void)state;
	for (int i = 0; i < LINES; i++)
		type(pty, "ab\n");
	assert_ok(pty_take(pty));
	assert_int_equal(pty->state->line_count, LINES);
	assert_ok(pty_put_back(pty));
	for (int i = 0; i < LINES; i++)
		check_line(slave, "ab\n");
}

/* As the other one finds it: a line is in the pipe, and nobody has noted it. */
static void test_a_death_between_a_line_and_its_note_loses_nothing(void **state)
{
	auto_fd int slave = -1;
	auto_pty struct pty *pty = new_pty(&slave);
	struct pollfd polled = {.fd = slave, .events = POLLIN};

	(void)state;
	type(pty, "one\ntwo\nhalf");
	assert_int_equal(poll(&polled, 1, WAIT_MS), 1);
	pty->state->stage = PTY_TAKING_LINES;
	assert_int_equal(splice(slave, NULL, pty->input.pipe[1], NULL, 4096, 0), 4);
	assert_ok(pty_put_back(pty));
	check_line(slave, "one\n");
	check_line(slave, "two\n");
	type(pty, "way\n");
	check_line(slave, "halfway\n");
}

/* Some of it is back already. */
static void test_a_death_while_it_is_put_back_doubles_nothing(void **state)
{
	auto_fd int slave = -1;
	auto_pty struct pty *pty = new_pty(&slave);

	(void)state;
	type(pty, "one\ntwo\nhalf");
	assert_ok(pty_take(pty));
	struct termios2 termios = pty->state->termios;
	assert_int_equal(ioctl(pty->master, TCSETS2, &termios), 0);
	assert_int_equal(sendfile(pty->master, pty->input.file, NULL, 6), 6);
	assert_ok(pty_put_back(pty));
	check_line(slave, "one\n");
	check_line(slave, "two\n");
	type(pty, "way\n");
	check_line(slave, "halfway\n");
}

static void test_too_much_is_left_where_it_is(void **state)
{
	auto_fd int slave = -1;
	auto_pty struct pty *pty = new_pty(&slave);

	(void)state;
	for (int i = 0; i < 1000; i++)
		type(pty, "abc\n");
	wait_for_bytes(slave, 4000);
	auto_error struct error *error = pty_take(pty);
	assert_non_null(error);
	assert_int_equal(error_errnum(error), EAGAIN);
	assert_false(pty_is_apart(pty));
	for (int i = 0; i < 1000; i++)
		check_line(slave, "abc\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_taken_comes_back),
		cmocka_unit_test(test_many_lines_fit_into_the_pipe),
		cmocka_unit_test(test_a_death_between_a_line_and_its_note_loses_nothing),
		cmocka_unit_test(test_a_death_while_it_is_put_back_doubles_nothing),
		cmocka_unit_test(test_too_much_is_left_where_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
