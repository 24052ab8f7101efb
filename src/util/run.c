/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/alloc.h"
#include "util/clock.h"
#include "util/own.h"
#include "util/run.h"

enum { OUTPUT_BYTES_MAX = 65536 };

/* Its standard streams are the pipe; signals are as if a user had started it. 0 or an errno. */
static int spawn(const char *const argv[], int output, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigset_t defaults;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): to drop a const */
	char *const *args = (char *const *)(uintptr_t)argv;
	int errnum = posix_spawnp(ret_pid, argv[0], &actions, &attributes, args, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return errnum;
}

/* Until its end; false: not within the time. What doesn't fit is thrown away. */
static bool read_output(int fd, int limit_ms, char output[OUTPUT_BYTES_MAX])
{
	uint64_t until_ns = clock_now_ns() + (uint64_t)limit_ms * 1000000;
	size_t size = 0;
	char rest[4096];

	for (;;) {
		struct pollfd input = {.fd = fd, .events = POLLIN};
		uint64_t now_ns = clock_now_ns();
		bool is_full = size + 1 == OUTPUT_BYTES_MAX;

		if (now_ns >= until_ns)
			return false;
		if (poll(&input, 1, (int)((until_ns - now_ns) / 1000000) + 1) <= 0)
			continue;
		ssize_t n =
			read(fd, is_full ? rest : output + size, is_full ? sizeof(rest) : OUTPUT_BYTES_MAX - 1 - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return true;
		size += is_full ? 0 : (size_t)n;
	}
}

static const char *last_line(char *output)
{
	size_t length = strlen(output);

	while (length > 0 && output[length - 1] == '\n')
		output[--length] = '\0';
	const char *line = strrchr(output, '\n');
	return line ? line + 1 : output;
}

static struct error *judge(const char *name, int status, char *output)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	const char *line = last_line(output);
	if (WIFSIGNALED(status))
		return error_new(0, "%s: ended by SIG%s", name, sigabbrev_np(WTERMSIG(status)));
	return error_new(0, "%s: ended with status %d%s%s", name, WEXITSTATUS(status), *line ? ": " : "", line);
}

struct error *run_program(const char *const argv[], int limit_ms, char **ret_output)
{
	auto_free char *output = xalloc(OUTPUT_BYTES_MAX);
	pid_t pid;
	int pair[2];
	int status = 0;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_new(errno, "pipe2");
	auto_fd int input = pair[0];
	int errnum = spawn(argv, pair[1], &pid);
	close(pair[1]);
	if (errnum)
		return error_new(errnum, "start %s", argv[0]);
	bool is_done = read_output(input, limit_ms, output);
	if (!is_done)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (!is_done)
		return error_new(ETIMEDOUT, "%s: not done within %d ms", argv[0], limit_ms);
	TRY(judge(argv[0], status, output));
	if (ret_output)
		*ret_output = take(output);
	return NULL;
}
