/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/probe_child.h"
#include "checkpoint/restore/restore.h"
#include "checkpoint/save/dump.h"
#include "checkpoint/save/freeze.h"
#include "memory/tracker.h"
#include "util/alloc.h"

/* ---- A program to try things on ---- */

/* It has nothing open and waits in a session of its own. */
__attribute__((noreturn)) static void be_program(bool is_filtered)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_fprog program = {.len = 1, .filter = &allow};

	setsid();
	if (is_filtered &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0))
		_exit(errno);
	close_range(0, UINT32_MAX, 0);
	for (;;)
		pause();
}

/* Returns when the child waits, or has ended with an errno. */
static struct error *start_program(bool is_filtered, pid_t *ret_pid)
{
	int pair[2];
	char byte;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_new(errno, "pipe");
	*ret_pid = fork();
	if (*ret_pid == 0)
		be_program(is_filtered);
	int saved_errno = errno;
	close(pair[1]);
	/* It has closed its end when there is an end. */
	while (*ret_pid > 0 && read(pair[0], &byte, 1) < 0 && errno == EINTR)
		continue;
	close(pair[0]);
	return *ret_pid < 0 ? error_new(saved_errno, "fork") : NULL;
}

static void end_program(const pid_t *pid)
{
	if (*pid <= 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, __WALL) < 0 && errno == EINTR)
		continue;
}
#define auto_program __attribute__((cleanup(end_program)))

/* ---- Stopping, tracking ---- */

static struct error *freeze_program(pid_t pid, struct frozen **ret_frozen)
{
	auto_live_tree struct live_tree live = {0};
	enum obstacle unused; /* it makes no processes */

	TRY(live_tree_read(pid, &live));
	return freeze(&(struct freeze_request){.live = &live}, ret_frozen, &unused);
}

struct error *probe_freeze(void)
{
	auto_program pid_t pid = 0;
	auto_frozen struct frozen *frozen = NULL;

	TRY(start_program(false, &pid));
	TRY(freeze_program(pid, &frozen));
	return frozen_thaw(frozen);
}

struct error *probe_tracking(void)
{
	auto_program pid_t pid = 0;
	auto_frozen struct frozen *frozen = NULL;
	auto_tracker struct tracker *tracker = NULL;

	TRY(start_program(false, &pid));
	TRY(freeze_program(pid, &frozen));
	struct error *error = tracker_new(frozen->processes[0], TRACK_USERFAULTFD, &tracker);
	if (!error)
		return NULL;
	struct error *other = tracker_new(frozen->processes[0], TRACK_SOFT_DIRTY, &tracker);
	if (other)
		return error_join(error, other);
	error_free(error);
	return NULL;
}

/* ---- There and back ---- */

/* A folder for the images of a small program, gone with all in it when it goes out of scope. */
struct scratch {
	char path[64];
	int fd; /* owned; -1: there is none */
};

static struct error *scratch_make(struct scratch *scratch)
{
	snprintf(scratch->path, sizeof(scratch->path), "/tmp/godwit-check-XXXXXX");
	if (!mkdtemp(scratch->path))
		return error_new(errno, "mkdtemp(%s)", scratch->path);
	scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return scratch->fd < 0 ? error_new(errno, "open(%s)", scratch->path) : NULL;
}

static void scratch_remove(struct scratch *scratch)
{
	DIR *dir = scratch->fd < 0 ? NULL : fdopendir(scratch->fd);

	if (!dir)
		return;
	for (const struct dirent *entry; (entry = readdir(dir));) /* NOLINT(concurrency-mt-unsafe): a dir of ours */
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(scratch->path);
}

static struct error *save(pid_t pid, const struct scratch *scratch)
{
	enum dump_outcome outcome;
	struct dump_statistics statistics;
	const struct dump_options options = {.pid = pid, .images_dir_fd = scratch->fd, .end = DUMP_KILL};

	return dump_run(&options, &outcome, &statistics);
}

struct error *probe_round_trip(void)
{
	__attribute__((cleanup(scratch_remove))) struct scratch scratch = {.fd = -1};
	auto_program pid_t pid = 0;
	auto_program pid_t restored = 0;
	pid_t child;
	const struct restore_options options = {.is_child = true};

	TRY(scratch_make(&scratch));
	TRY(start_program(false, &pid));
	TRY(save(pid, &scratch), "save a small program");
	end_program(&pid);
	pid = 0;
	struct restore_options here = options;
	here.images_dir_fd = scratch.fd;
	return error_wrap(restore_run(&here, &restored, &child), "bring back a small program");
}

/* ---- Making processes ---- */

struct error *probe_set_tid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return error_new(errno, "fork");
	waitpid(pid, NULL, 0);
	/* A PID that is free now, most likely still in a moment. */
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&pid,
		.set_tid_size = 1,
	};
	pid_t clone = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (clone == 0)
		_exit(0);
	if (clone < 0)
		return error_new(errno, "clone3 with set_tid");
	waitpid(clone, NULL, 0);
	return NULL;
}

static struct error *wait_for_errno(pid_t child, const char *what)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return error_new(errno, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	return error_new(WIFEXITED(status) ? WEXITSTATUS(status) : EFAULT, "%s", what);
}

struct error *probe_time_namespace(void)
{
	static const char offsets[] = "monotonic 1 0\nboottime 1 0\n";
	pid_t child = fork();

	if (child == 0) {
		int fd = unshare(CLONE_NEWTIME) < 0 ? -1 : open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);

		_exit(fd >= 0 && write(fd, offsets, strlen(offsets)) > 0 ? 0 : errno);
	}
	if (child < 0)
		return error_new(errno, "fork");
	return wait_for_errno(child, "unshare(CLONE_NEWTIME) and timens_offsets");
}

/* ---- seccomp ---- */

struct error *probe_seccomp(void)
{
	auto_program pid_t pid = 0;

	TRY(start_program(true, &pid));
	if (ptrace(PTRACE_SEIZE, pid, NULL, (uintptr_t)PTRACE_O_SUSPEND_SECCOMP) < 0)
		return error_new(errno, "PTRACE_SEIZE with PTRACE_O_SUSPEND_SECCOMP");
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 || waitpid(pid, NULL, __WALL) < 0)
		return error_new(errno, "PTRACE_INTERRUPT");
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, NULL) < 0)
		return error_new(errno, "PTRACE_SECCOMP_GET_FILTER");
	return NULL;
}
