/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/scripts.h"
#include "util/alloc.h"
#include "util/procfs.h"

struct error *scripts_add(struct scripts *scripts, const char *command)
{
	if (!*command)
		return error_new(0, "empty");
	if (scripts->count == SCRIPTS_MAX)
		return error_new(0, "more than %d scripts", SCRIPTS_MAX);
	scripts->list[scripts->count++] = command;
	return NULL;
}

/* In a child of ours: everything as if the user had started it. */
__attribute__((noreturn)) static void be_script(const struct scripts *scripts, const char *command, const char *point,
                                                pid_t pid)
{
	auto_free char *folder = scripts->images_dir ? realpath(scripts->images_dir, NULL) : NULL;
	auto_free char *pid_text = xformat("%d", pid);
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* A group of its own, so that all of it can be ended. */
	setpgid(0, 0);
	/* Our standard input and output may be the connection to the other host. */
	dup2(null, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	/* NOLINTBEGIN(concurrency-mt-unsafe): a child has one thread */
	setenv("CRTOOLS_SCRIPT_ACTION", point, 1);
	if (folder)
		setenv("CRTOOLS_IMAGE_DIR", folder, 1);
	if (pid > 0)
		setenv("CRTOOLS_INIT_PID", pid_text, 1);
	/* NOLINTEND(concurrency-mt-unsafe) */
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/* -ETIMEDOUT, or 0 with what waitpid(2) says. */
static int wait_for_script(pid_t child, int limit_ms, int *ret_status)
{
	auto_fd int pidfd = procfs_open_pid(child);
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	int n = 1;

	/* Without a pidfd (there is one since Linux 5.3) it is waited for as long as it takes. */
	while (pidfd >= 0 && (n = poll(&end, 1, limit_ms)) < 0 && errno == EINTR)
		continue;
	if (n == 0)
		kill(-child, SIGKILL);
	while (waitpid(child, ret_status, 0) < 0 && errno == EINTR)
		continue;
	return n == 0 ? -ETIMEDOUT : 0;
}

static struct error *run_script(struct scripts *scripts, const char *command, const char *point, pid_t pid,
                                int limit_ms)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0)
		be_script(scripts, command, point, pid);
	if (child < 0)
		return error_new(errno, "fork for the script %s", command);
	if (wait_for_script(child, limit_ms, &status) < 0)
		return error_new(ETIMEDOUT, "script %s at %s: not done within %d ms", command, point, limit_ms);
	if (WIFSIGNALED(status))
		return error_new(0, "script %s at %s: ended by SIG%s", command, point, sigabbrev_np(WTERMSIG(status)));
	if (WEXITSTATUS(status) == 0)
		return NULL;
	if (strcmp(point, "post-dump") == 0)
		scripts->post_dump_status = WEXITSTATUS(status);
	return error_new(0, "script %s at %s: ended with status %d", command, point, WEXITSTATUS(status));
}

/* All of them, also behind one that failed: what one has locked, another may have to unlock. */
static struct error *run_scripts(struct hooks *hooks, const char *point, pid_t pid, int limit_ms)
{
	struct scripts *scripts = (struct scripts *)hooks;
	struct error *error = NULL;

	for (size_t i = 0; i < scripts->count; i++)
		error = error_join(error, run_script(scripts, scripts->list[i], point, pid, limit_ms));
	return error;
}

struct hooks *scripts_hooks(struct scripts *scripts)
{
	scripts->hooks.run = run_scripts;
	return scripts->count > 0 ? &scripts->hooks : NULL;
}
