/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * hosts: two hosts and a client on one machine, for shell scripts. lab.h tells how they are made, hosts.sh has the
 * functions for scripts.
 *
 *     hosts run [-n COUNT] PROGRAM [ARG]...   runs PROGRAM beside the hosts a, b, client (or the first COUNT of them)
 *
 * Inside:
 *     hosts on HOST PROGRAM [ARG]...          runs it there, with our standard streams, and returns its status
 *     hosts start HOST LOG PROGRAM [ARG]...   leaves it running in a session of its own, prints its PID on HOST
 *     hosts ssh [OPTION]... [USER@]HOST ARG...   as ssh(1) would: the words joined, given to a shell on HOST
 *     hosts wait FILE SECONDS                 returns as soon as FILE is there
 *     hosts gone PID SECONDS                  returns as soon as no process has this PID here
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "lab.h"

static _Noreturn void usage(void)
{
	errx(2, "usage: hosts run|on|start|ssh|wait|gone ..., see the head of hosts.c");
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int run(char **args)
{
	unsigned int count = LAB_HOSTS_MAX;
	char self[4096];

	if (args[0] && strcmp(args[0], "-n") == 0) {
		count = args[1] ? (unsigned int)strtoul(args[1], NULL, 10) : 0;
		if (count == 0 || count > LAB_HOSTS_MAX)
			usage();
		args += 2;
	}
	if (!args[0])
		usage();
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (length < 0)
		err(1, "readlink(/proc/self/exe)");
	self[length] = '\0';
	setenv("HOSTS", self, 1);
	setenv("SHARED", LAB_SHARED, 1);
	return lab_run(count, args);
}

static int on(const char *host, char **argv)
{
	struct agent_answer answer;
	int connection = agent_ask(host, AGENT_RUN, argv, (const int[]){0, 1, 2});
	bool is_started = agent_answer(connection, &answer);
	bool is_ended = is_started && agent_answer(connection, &answer);

	if (!is_ended)
		errx(255, "host %s did not answer", host);
	return WIFEXITED(answer.wait_status) ? WEXITSTATUS(answer.wait_status) : 128 + WTERMSIG(answer.wait_status);
}

static int start(const char *host, const char *log, char **argv)
{
	struct agent_answer answer;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (out < 0)
		err(1, "%s", log);
	int connection = agent_ask(host, AGENT_START, argv, (const int[]){null, out, out});
	if (!agent_answer(connection, &answer) || answer.pid < 0)
		errx(255, "host %s did not answer", host);
	printf("%d\n", answer.pid);
	return 0;
}

/* Options are skipped; those of ssh(1) that take a value are told by their letter. */
static int ssh(char **args)
{
	char command[65536] = "";
	size_t used = 0;

	while (args[0] && args[0][0] == '-') {
		int has_value = strchr("bcDEeFIiJLlmOopQRSWw", args[0][1]) && args[0][2] == '\0';

		args += has_value && args[1] ? 2 : 1;
	}
	if (!args[0] || !args[1])
		usage();
	const char *at = strchr(args[0], '@');
	const char *host = at ? at + 1 : args[0];
	for (args++; *args && used < sizeof(command); args++)
		used += (size_t)snprintf(command + used, sizeof(command) - used, "%s ", *args);
	if (used >= sizeof(command))
		errx(255, "command is too long");
	return on(host, (char *[]){(char[]){"sh"}, (char[]){"-c"}, command, NULL});
}

/* Watches the folder before it looks for the file, so that nothing is missed in between. */
static int wait_file(const char *file, int64_t seconds)
{
	char copy[4096];
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	int64_t deadline = now_ms() + seconds * 1000;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct pollfd polled = {.fd = fd, .events = POLLIN};

	snprintf(copy, sizeof(copy), "%s", file);
	if (fd < 0 || inotify_add_watch(fd, dirname(copy), IN_CREATE | IN_MOVED_TO) < 0)
		err(1, "watch the folder of %s", file);
	while (access(file, F_OK) != 0) {
		int64_t left = deadline - now_ms();

		if (left <= 0 || poll(&polled, 1, (int)left) == 0)
			return 1;
		while (read(fd, events, sizeof(events)) > 0)
			continue;
	}
	return 0;
}

/* A process that is dead but not yet reaped still has its PID, so a pidfd alone doesn't tell. */
static int wait_gone(pid_t pid, int64_t seconds)
{
	int64_t deadline = now_ms() + seconds * 1000;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd polled = {.fd = fd, .events = POLLIN};

	if (fd >= 0)
		poll(&polled, 1, (int)seconds * 1000);
	while (kill(pid, 0) == 0 || errno != ESRCH) {
		if (now_ms() > deadline)
			return 1;
		usleep(1000); /* until its parent reaps it */
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (strcmp(command, "run") == 0)
		return run(argv + 2);
	if (strcmp(command, "on") == 0 && argc > 3)
		return on(argv[2], argv + 3);
	if (strcmp(command, "start") == 0 && argc > 4)
		return start(argv[2], argv[3], argv + 4);
	if (strcmp(command, "ssh") == 0)
		return ssh(argv + 2);
	if (strcmp(command, "wait") == 0 && argc == 4)
		return wait_file(argv[2], strtol(argv[3], NULL, 10));
	if (strcmp(command, "gone") == 0 && argc == 4)
		return wait_gone((pid_t)strtol(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
	usage();
}
