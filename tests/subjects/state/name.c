/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Names of threads (PR_SET_NAME), the command line, and what stands in /proc about the process: personality(2),
 * oom_score_adj, the link to the program.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/personality.h>
#include <sys/prctl.h>

#include "crew.h"

static char program_before[4096];
static char command_line_before[4096];
static const char *const names[CREW] = {"main (thread)", "second) S 1 2", "", "fifteen-letters"};

static void read_file(const struct subject *subject, const char *path, char *text, size_t size_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size_bytes - 1);

	if (n < 0)
		subject_fail(subject, "%s: errno %d", path, errno);
	text[n] = '\0';
	close(fd);
}

static void read_link(const struct subject *subject, char program[4096])
{
	ssize_t n = readlink("/proc/self/exe", program, 4095);

	if (n < 0)
		subject_fail(subject, "exe: errno %d", errno);
	program[n] = '\0';
}

static void set_up(const struct subject *subject, int number)
{
	if (prctl(PR_SET_NAME, names[number]) != 0)
		subject_fail(subject, "name: errno %d", errno);
	if (number != 0)
		return;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "321", 3) != 3 || close(fd) != 0)
		subject_fail(subject, "oom_score_adj: errno %d", errno);
	read_file(subject, "/proc/self/cmdline", command_line_before, sizeof(command_line_before));
	read_link(subject, program_before);
	if (personality(UNAME26 | ADDR_COMPAT_LAYOUT) < 0)
		subject_fail(subject, "personality: errno %d", errno);
}

static void check_process(const struct subject *subject)
{
	char text[4096];
	char program[4096];

	read_file(subject, "/proc/self/oom_score_adj", text, sizeof(text));
	if (strcmp(text, "321\n") != 0)
		subject_fail(subject, "oom_score_adj: %s", text);
	if (personality(UINT32_MAX) != (UNAME26 | ADDR_COMPAT_LAYOUT))
		subject_fail(subject, "personality %#x", personality(UINT32_MAX));
	read_file(subject, "/proc/self/comm", text, sizeof(text));
	if (strcmp(text, "main (thread)\n") != 0)
		subject_fail(subject, "comm: %s", text);
	read_file(subject, "/proc/self/cmdline", text, sizeof(text));
	read_link(subject, program);
	if (strcmp(text, command_line_before) != 0 || strcmp(program, program_before) != 0)
		subject_fail(subject, "exe is %s, the command line begins with %s", program, text);
}

static void check(const struct subject *subject, int number)
{
	char name[16];

	if (prctl(PR_GET_NAME, name) != 0 || strcmp(name, names[number]) != 0)
		subject_fail(subject, "thread %d is \"%.16s\"", number, name);
	if (number == 0)
		check_process(subject);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
