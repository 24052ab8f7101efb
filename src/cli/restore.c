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

#include "checkpoint/restore/restore.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/job.h"
#include "util/alloc.h"

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
	COMMON_REPORT,
	{"restore-detached", 'd', NULL, "return when it runs, instead of waiting for its end", set_detached},
	{"leave-stopped", 's', NULL, "leave it stopped; kill -CONT lets it run", set_left_stopped},
	COMMON_PIDS,
	{"pidfile", 0, "FILE", "write its PID there, just before it runs", set_pidfile},
	COMMON_CARRY,
	COMMON_CPU,
	COMMON_STDIO,
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

/* What waitpid(2) says of it until it ends; then its exit status, as a shell tells it. -1: nothing new. */
static int look_at(struct job *job, bool is_job)
{
	int status;
	pid_t changed = waitpid(job->pid, &status, WNOHANG | __WALL | (is_job ? WUNTRACED : 0));

	if (changed < 0)
		return errno == EINTR ? -1 : EXIT_FAILURE;
	if (changed == 0)
		return -1;
	if (WIFSTOPPED(status)) {
		job_stop(job);
		return -1;
	}
	job_end(job);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* child: whose end is that of the program. */
static int wait_for(pid_t pid, pid_t child, bool is_job)
{
	sigset_t set = waited_signals();
	struct job job = job_begin(child);
	int status;

	while ((status = look_at(&job, is_job)) < 0) {
		int signal = sigwaitinfo(&set, NULL);
		/* The terminal has sent it to the whole foreground group, and so to the program, too. */
		if (signal > 0 && signal != SIGCHLD && !is_job)
			kill(pid, signal);
	}
	return status;
}

/* ---- The command ---- */

static struct error *bring_back(struct restore_command *restore, struct log *log, pid_t *ret_pid, pid_t *ret_child)
{
	struct pidfile pidfile = {.watcher.before_go = write_pid, .path = restore->pidfile};
	auto_fd int dir = -1;

	TRY(open_images_dir(&restore->common, &dir));
	if (faccessat(dir, "pstree.img", F_OK, 0) < 0 && faccessat(dir, "inventory.img", F_OK, 0) < 0)
		return error_hint(error_new(0, "no program is saved in %s", restore->common.images_dir),
		                  "the folder is the one that --images-dir named to godwit dump");
	const struct restore_options options = {
		.images_dir_fd = dir,
		.leave_stopped = restore->is_left_stopped,
		.is_child = !restore->is_detached,
		.cpu_caps = restore->common.cpu_caps,
		.new_pids = restore->common.has_new_pids,
		.carry = restore->common.carry,
		.watcher = &pidfile.watcher,
		.hooks = scripts_hooks(&restore->common.scripts),
		.log = log,
	};
	struct error *error = restore_run(&options, ret_pid, ret_child);
	if (error && pidfile.is_written && !*ret_pid)
		unlink(pidfile.path);
	return error;
}

/* It runs: there is nothing to refuse any more. */
static void post_resume(struct restore_command *restore, struct report *report, pid_t pid)
{
	auto_error struct error *error =
		hooks_run(scripts_hooks(&restore->common.scripts), "post-resume", pid, HOOK_NO_LIMIT_MS);
	auto_free char *line = error ? error_line(error) : NULL;

	if (line)
		fprintf(stderr, "warning: the program runs, but: %s\n", line);
	report_text(report, "warning", line);
}

static int restore(struct restore_command *restore, struct report *report)
{
	const sigset_t set = waited_signals();
	pid_t pid = 0;
	pid_t child = 0;
	struct error *error = error_wrap(bring_back(restore, report_log(report), &pid, &child),
	                                 "cannot restore the program from %s", restore->common.images_dir);
	bool is_there = pid > 0;
	const char *outcome = error && is_there          ? "The program runs, but some of its connections may not work."
	                      : error                    ? "Nothing was restored."
	                      : restore->is_left_stopped ? "The program is there, stopped; kill -CONT lets it run."
	                                                 : "The program runs.";

	report_number(report, "pid", (uint64_t)pid);
	if (!error) {
		post_resume(restore, report, pid);
		/* Not before: it may be the very program whose lock it is. */
		sweep_locks(report_log(report));
	}
	report_text(report, "program", !is_there ? "none" : restore->is_left_stopped ? "stopped" : "runs");
	int status = report_end(report, error, outcome);
	if (status || restore->is_detached)
		return status;
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return wait_for(pid, child, restore->common.carry.shell_job);
}

static struct error *check_options(const void *options)
{
	const struct restore_command *restore = options;

	if (!restore->common.images_dir)
		return error_hint(error_new(0, "no folder with images"), "--images-dir DIR names it");
	return common_check(&restore->common);
}

static int run_restore(const struct command *command, int argc, char **argv)
{
	struct restore_command options = {.common = common_defaults};
	auto_report struct report *report = NULL;
	int status;

	return common_begin(command, argc, argv, &options, &report, &status) ? restore(&options, report) : status;
}

const struct command restore_command = {
	.name = "restore",
	.summary = "Brings a program back that godwit dump has saved, with the PIDs that it had.",
	.options = restore_table,
	.check = check_options,
	.run = run_restore,
};
