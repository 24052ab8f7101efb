/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/restore/pid_space.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"

enum { HOLDER_FD = 3 }; /* in the init: its end comes when we let go */

struct pid_space {
	pid_t init;
	int holder; /* owned: the end of the pipe whose close lets go */
};

/* ---- In the init ---- */

static int status_of(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/* Memory that runs out is to be had elsewhere: our end would end everybody here. It may not be allowed. */
static void be_spared(void)
{
	auto_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ssize_t written = fd < 0 ? -1 : write(fd, "-1000", 5);

	(void)written;
}

int pid_space_be_init(int argc, char **argv)
{
	pid_t program = argc > 1 ? (pid_t)strtol(argv[1], NULL, 10) : 0;
	bool is_held = true;
	int status = EXIT_FAILURE;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, PID_SPACE_INIT);
	be_spared();
	for (;;) {
		int wait_status;
		char byte;
		pid_t ended = waitpid(-1, &wait_status, __WALL);

		if (ended == program)
			status = status_of(wait_status);
		if (ended > 0 || errno == EINTR)
			continue;
		/* Nobody is here: not yet, or no more. */
		if (!is_held)
			return status;
		is_held = read(HOLDER_FD, &byte, 1) < 0 && errno == EINTR;
	}
}

/* ---- Here ---- */

/* Never returns. No handlers of libc have run: only bare calls. */
static void execute_init(int holder, const char *own_pid)
{
	char name[] = PID_SPACE_INIT;
	char *const argv[] = {name, (char *)(uintptr_t)own_pid, NULL};
	char *const environment[] = {NULL};

	setsid();
	dup3(holder, HOLDER_FD, 0);
	syscall(SYS_close_range, HOLDER_FD + 1, UINT32_MAX, 0);
	syscall(SYS_close_range, 0, HOLDER_FD - 1, 0);
	for (int fd = 0; fd < HOLDER_FD; fd++)
		(void)open("/dev/null", O_RDWR);
	if (chdir("/") == 0)
		execve("/proc/self/exe", argv, environment);
	_exit(EXIT_FAILURE);
}

static pid_t clone_init(int holder, const char *own_pid)
{
	struct clone_args args = {.flags = CLONE_NEWPID, .exit_signal = SIGCHLD};
	pid_t init = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (init == 0)
		execute_init(holder, own_pid);
	return init;
}

/* By a child that ends at once. 0 or the errno. */
static int clone_orphan(int holder, const char *own_pid, pid_t *ret_init)
{
	pid_t *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (told == MAP_FAILED)
		return errno;
	*told = -EIO;
	pid_t child = fork();
	if (child == 0) {
		pid_t init = clone_init(holder, own_pid);
		*told = init < 0 ? -errno : init;
		_exit(0);
	}
	int errnum = errno;
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		continue;
	pid_t init = child < 0 ? -errnum : *told;
	munmap(told, sizeof(*told));
	if (init < 0)
		return -init;
	*ret_init = init;
	return 0;
}

struct error *pid_space_new(pid_t own_pid, bool is_child, struct pid_space **ret_space)
{
	auto_free char *own_pid_text = xformat("%d", own_pid);
	int pair[2];
	pid_t init = 0;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_new(errno, "pipe2");
	auto_fd int holder = pair[1];
	int errnum = 0;
	if (!is_child)
		errnum = clone_orphan(pair[0], own_pid_text, &init);
	else if ((init = clone_init(pair[0], own_pid_text)) < 0)
		errnum = errno;
	close(pair[0]);
	if (errnum)
		return error_hint(error_new(errnum, "new PID namespace"), "CAP_SYS_ADMIN is needed for one");
	*ret_space = xalloc(sizeof(**ret_space));
	**ret_space = (struct pid_space){.init = init, .holder = take(holder)};
	return NULL;
}

void pid_space_free(struct pid_space *space)
{
	if (!space)
		return;
	close(space->holder);
	free(space);
}

pid_t pid_space_init(const struct pid_space *space)
{
	return space->init;
}

static struct error *make_children_in(pid_t pid)
{
	auto_free char *path = xformat("/proc/%d/ns/pid", pid);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || setns(fd, CLONE_NEWPID) < 0 ? error_new(errno, "setns to %s", path) : NULL;
}

struct error *pid_space_enter(const struct pid_space *space)
{
	return make_children_in(space->init);
}

struct error *pid_space_leave(void)
{
	return make_children_in(getpid());
}

struct error *pid_space_only_child(const struct pid_space *space, pid_t *ret_pid)
{
	auto_free char *name = xformat("task/%d/children", space->init);
	auto_free char *text = NULL;
	char *end;

	int r = procfs_read(space->init, name, &text, NULL);
	if (r < 0)
		return error_new(-r, "children of process %d", space->init);
	pid_t pid = (pid_t)strtol(text, &end, 10);
	if (pid <= 0)
		return error_new(ESRCH, "the init of the PID namespace has the children \"%s\"", text);
	*ret_pid = pid;
	return NULL;
}
