/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/restore/nursery.h"
#include "util/procfs.h"

/* Shared between us and what we clone: how far it has come. */
struct progress {
	uint32_t word;   /* futex: one of the values below */
	int32_t failure; /* errno */
	int32_t number;  /* that could not be had, if it is that */
};
enum { WORKING, READY, FAILED };
enum {
	WAIT_NS = 50 * 1000 * 1000,
	UNSEEN_MS = 1000, /* it may be a session's or a group's that goes on without its leader */
};

static void say(struct progress *progress, uint32_t word)
{
	__atomic_store_n(&progress->word, word, __ATOMIC_RELEASE);
	syscall(SYS_futex, &progress->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* As fork(2), with a given PID (0: any). No handlers of libc run: the child makes only bare calls. */
static pid_t try_clone_as(pid_t pid, uint64_t flags, int cgroup_fd)
{
	struct clone_args args = {
		.flags = flags | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
		.set_tid = pid ? (uint64_t)(uintptr_t)&pid : 0,
		.set_tid_size = pid ? 1 : 0,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* A PID is in use for a moment longer than its process can be seen: release_task() of Linux. */
static pid_t clone_as(pid_t pid, uint64_t flags, int cgroup_fd)
{
	for (int waited_ms = 0;; waited_ms++) {
		pid_t made = try_clone_as(pid, flags, cgroup_fd);

		if (made >= 0 || errno != EEXIST || waited_ms == UNSEEN_MS || kill(pid, 0) == 0)
			return made;
		usleep(1000);
	}
}

__attribute__((noreturn)) static void fail(struct progress *progress)
{
	progress->failure = errno;
	say(progress, FAILED);
	_exit(1);
}

/* A process group needs a member with its number to come into being: setpgid(2). */
static bool make_group(pid_t group)
{
	pid_t leader = clone_as(group, 0, -1);

	if (leader == 0) {
		setpgid(0, 0);
		for (;;)
			pause();
	}
	if (leader < 0)
		return false;
	bool is_made = setpgid(leader, leader) == 0 && setpgid(0, group) == 0;
	int saved_errno = errno;
	kill(leader, SIGKILL);
	while (waitpid(leader, NULL, 0) < 0 && errno == EINTR)
		continue;
	errno = saved_errno;
	return is_made;
}

static bool join_group(const struct nursery_request *request)
{
	pid_t own = getpid();

	if (!request->group || request->group == getpgrp())
		return true;
	if (request->group == own)
		return setpgid(0, 0) == 0;
	return setpgid(0, request->group) == 0 || make_group(request->group);
}

static bool keep_one_descriptor(const struct nursery_request *request)
{
	unsigned kept = (unsigned)request->kept_as;

	if (request->kept_fd != request->kept_as && dup2(request->kept_fd, request->kept_as) < 0)
		return false;
	if (kept > 0 && syscall(SYS_close_range, 0, kept - 1, 0) < 0)
		return false;
	return syscall(SYS_close_range, kept + 1, UINT32_MAX, 0) == 0;
}

/* What fails is done later, from outside. */
static void enter_cgroups(const struct nursery_request *request)
{
	for (size_t i = 0; i < request->cgroup_door_count; i++) {
		ssize_t written = write(request->cgroup_doors[i], "0", 1);

		(void)written;
	}
}

__attribute__((noreturn)) static void be_task(const struct nursery_request *request, struct progress *progress)
{
	if (request->session == getpid() && setsid() < 0)
		fail(progress);
	enter_cgroups(request);
	progress->number = request->group;
	if (!join_group(request) || !keep_one_descriptor(request))
		fail(progress);
	say(progress, READY);
	/* Who dies before it has adopted this can't end it: PTRACE_O_EXITKILL comes with the adoption. */
	struct pollfd maker = {.fd = request->kept_as, .events = POLLIN};
	while (poll(&maker, 1, -1) != 1)
		continue;
	_exit(1);
}

/* Linux before 5.7 can't, and the group may be gone or forbidden: the process can be moved to it later. */
static pid_t clone_task(const struct nursery_request *request, uint64_t flags)
{
	pid_t task = request->cgroup_fd < 0 ? -1 : clone_as(request->pid, flags, request->cgroup_fd);

	return task < 0 ? clone_as(request->pid, flags, -1) : task;
}

/*
 * Makes the task, and ends: the leader of a session that has none any more, which makes the session before, or just
 * someone to make an orphan. With a parent that lives the task is our child.
 */
__attribute__((noreturn)) static void be_helper(const struct nursery_request *request, struct progress *progress,
                                                bool is_leader)
{
	if (is_leader && setsid() < 0)
		fail(progress);
	progress->number = request->pid;
	pid_t task = clone_task(request, request->is_child ? CLONE_PARENT : 0);
	if (task == 0)
		be_task(request, progress);
	if (task < 0)
		fail(progress);
	/* The group of a foreign leader is made from within the session. */
	while (__atomic_load_n(&progress->word, __ATOMIC_ACQUIRE) == WORKING)
		syscall(SYS_futex, &progress->word, FUTEX_WAIT, WORKING, NULL, NULL, 0);
	_exit(0);
}

static struct error *wait_for(const struct nursery_request *request, pid_t first, struct progress *progress)
{
	const struct timespec timeout = {.tv_nsec = WAIT_NS};

	while (__atomic_load_n(&progress->word, __ATOMIC_ACQUIRE) == WORKING) {
		siginfo_t info = {0};

		syscall(SYS_futex, &progress->word, FUTEX_WAIT, WORKING, &timeout, NULL, 0);
		if (waitid(P_PID, (id_t)first, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid)
			break;
	}
	if (__atomic_load_n(&progress->word, __ATOMIC_ACQUIRE) == READY)
		return NULL;
	return error_new(progress->failure, "new task %d, session %d, group %d", request->pid, request->session,
	                 request->group);
}

bool nursery_may_become_free(pid_t pid)
{
	return (kill(pid, 0) < 0 && errno == ESRCH) || procfs_is_dead(pid);
}

struct error *nursery_name_holder(struct error *error, pid_t pid)
{
	auto_free char *comm = NULL;

	if (error_errnum(error) != EEXIST || procfs_read(pid, "comm", &comm, NULL) < 0)
		return error;
	comm[strcspn(comm, "\n")] = '\0';
	return error_hint(error,
	                  "PID %d is taken by %s: end that program, or pass --pids new, which gives it a PID namespace "
	                  "of its own",
	                  pid, comm);
}

/* A PID whose holder has just died becomes free soon. */
static void wait_until_free(pid_t pid)
{
	for (int waited_ms = 0; waited_ms < NURSERY_DEAD_MS && kill(pid, 0) == 0 && procfs_is_dead(pid); waited_ms++)
		usleep(1000);
}

/* For a helper: any; but in a namespace where numbers have just begun it would get one that the program is to have. */
static pid_t spare_number(const struct nursery_request *request)
{
	pid_t highest = request->pid;

	if (!request->is_apart)
		return 0;
	highest = request->session > highest ? request->session : highest;
	highest = request->group > highest ? request->group : highest;
	return highest + 1;
}

static struct error *clone_and_wait(const struct nursery_request *request, struct progress *progress)
{
	pid_t own_session = getsid(0);
	bool needs_leader = request->session && request->session != request->pid &&
	                    (request->is_apart || request->session != own_session);
	bool needs_helper = needs_leader || !request->is_child;
	pid_t wanted = needs_leader ? request->session : needs_helper ? spare_number(request) : request->pid;

	if (!request->is_apart)
		wait_until_free(request->pid);
	if (needs_leader && !request->is_apart)
		wait_until_free(wanted);
	pid_t first = clone_as(wanted, 0, -1);
	if (first == 0 && needs_helper)
		be_helper(request, progress, needs_leader);
	if (first == 0)
		be_task(request, progress);
	if (first < 0)
		return request->is_apart ? error_new(errno, "clone3 with PID %d in a new PID namespace", wanted)
		                         : nursery_name_holder(error_new(errno, "clone3 with PID %d", wanted), wanted);
	struct error *error = wait_for(request, first, progress);
	if (needs_helper || error) {
		kill(first, SIGKILL);
		while (waitpid(first, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	return error && !request->is_apart ? nursery_name_holder(error, progress->number) : error;
}

struct error *nursery_clone(const struct nursery_request *request)
{
	struct progress *progress =
		mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (progress == MAP_FAILED)
		return error_new(errno, "mmap");
	struct error *error = clone_and_wait(request, progress);
	munmap(progress, sizeof(*progress));
	return error;
}
