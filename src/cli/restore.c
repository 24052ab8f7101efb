/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* godwit restore: brings a program back from a folder. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/restore.h"
#include "cli/commands.h"
#include "cli/common.h"

struct restore_command {
	struct common_options common; /* first: setters of common options are given this */
	const char *pidfile;
	bool is_detached, is_left_stopped;
};

static struct error *set_detached(void *options, const char *value)
{
	(void)value;
	((struct restore_command *)options)->is_detached = true;
	return NULL;
}

static struct error *set_left_stopped(void *options, const char *value)
{
	(void)value;
	((struct restore_command *)options)->is_left_stopped = true;
	return NULL;
}

static struct error *set_pidfile(void *options, const char *value)
{
	((struct restore_command *)options)->pidfile = value;
	return *value ? NULL : error_new(0, "empty");
}

static const struct option_spec restore_table[] = {
	COMMON_DIRECTORIES,
	{"restore-detached", 'd', NULL, "return when it runs, instead of waiting for its end", set_detached},
	{"leave-stopped", 's', NULL, "leave it stopped; kill -CONT lets it run", set_left_stopped},
	{"pidfile", 0, "FILE", "write its PID there, just before it runs", set_pidfile},
	COMMON_CARRY,
	{0},
};

/* ---- The PID file ---- */

struct pidfile {
	struct restore_watcher watcher;
	const char *path; /* NULL: none */
	bool is_written;
};

static struct error *write_pid(struct restore_watcher *watcher, pid_t pid)
{
	struct pidfile *file = (struct pidfile *)watcher;

	if (!file->path)
		return NULL;
	auto_fd int fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_new(errno, "PID file: open(%s)", file->path);
	file->is_written = true;
	return dprintf(fd, "%d", pid) > 0 ? NULL : error_new(errno, "PID file: write(%s)", file->path);
}

/* ---- Waiting ---- */

/* Signals that are meant for the program go to it. */
static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

static sigset_t waited_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(&set, forwarded[i]);
	return set;
}

/* Until the program ends; its exit status, as a shell tells it. */
static int wait_for(pid_t pid, bool is_job)
{
	sigset_t set = waited_signals();
	int status;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG | __WALL);

		if (ended == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (ended < 0 && errno != EINTR)
			return EXIT_FAILURE;
		int signal = sigwaitinfo(&set, NULL);
		/* The terminal has sent it to the whole foreground group, and so to the program, too. */
		if (signal > 0 && signal != SIGCHLD && !is_job)
			kill(pid, signal);
	}
}

/* ---- The command ---- */

static int restore_with_log(const struct restore_command *restore, FILE *log)
{
	struct pidfile pidfile = {.watcher.before_go = write_pid, .path = restore->pidfile};
	const sigset_t set = waited_signals();
	pid_t pid;
	int dir;
	struct error *error = open_images_dir(&restore->common, &dir);

	if (error)
		return failure_status(error, "Nothing was restored.", log);
	const struct restore_options options = {
		.images_dir_fd = dir,
		.leave_stopped = restore->is_left_stopped,
		.carry = restore->common.carry,
		.watcher = &pidfile.watcher,
	};
	error = restore_run(&options, &pid);
	close(dir);
	if (error) {
		if (pidfile.is_written)
			unlink(pidfile.path);
		return failure_status(
			error_wrap(error, "cannot restore the program from %s", restore->common.images_dir),
			"Nothing was restored.", log);
	}
	if (log && restore->common.verbosity > 0)
		fprintf(log, "restored process %d\n", pid);
	if (restore->is_detached)
		return EXIT_SUCCESS;
	if (log)
		fflush(log);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return wait_for(pid, restore->common.carry.shell_job);
}

static int run_restore(const struct command *command, int argc, char **argv)
{
	struct restore_command restore = {.common = common_defaults};
	auto_file FILE *log = NULL;
	bool is_help;
	int first;
	struct error *error = options_parse(command, argc, argv, &restore, &first, &is_help);

	if (!error && !is_help)
		error = open_log(&restore.common, &log);
	if (error || is_help)
		return usage_status(error);
	return restore_with_log(&restore, log);
}

const struct command restore_command = {
	.name = "restore",
	.summary = "Brings a program back that godwit dump has saved, with the PIDs that it had.",
	.options = restore_table,
	.run = run_restore,
};
