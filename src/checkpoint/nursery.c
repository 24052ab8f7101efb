/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/nursery.h"
#include "util/procfs.h"

/* Shared between us and what we clone: how far it has come. */
struct progress {
	uint32_t word;   /* futex: one of the values below */
	int32_t failure; /* errno */
};
enum { WORKING, READY, FAILED };
enum {
	WAIT_NS = 50 * 1000 * 1000,
	DEAD_MS = 5000, /* that the parent of a dead holder of a PID may take to take note; some look once a second */
};

static void say(struct progress *progress, uint32_t word)
{
	__atomic_store_n(&progress->word, word, __ATOMIC_RELEASE);
	syscall(SYS_futex, &progress->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* As fork(2), with a given PID (0: any). No handlers of libc run: the child makes only bare calls. */
static pid_t clone_as(pid_t pid, uint64_t flags)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&pid,
		.set_tid_size = pid ? 1 : 0,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
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
	pid_t leader = clone_as(group, 0);

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

__attribute__((noreturn)) static void be_task(const struct nursery_request *request, struct progress *progress)
{
	if (request->session == getpid() && setsid() < 0)
		fail(progress);
	if (!join_group(request) || !keep_one_descriptor(request))
		fail(progress);
	say(progress, READY);
	for (;;)
		pause();
}

/* The leader of a session that has none any more: makes the session, then the task in it as our child, and ends. */
__attribute__((noreturn)) static void be_leader(const struct nursery_request *request, struct progress *progress)
{
	if (setsid() < 0)
		fail(progress);
	pid_t task = clone_as(request->pid, CLONE_PARENT);
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

static struct error *name_holder(struct error *error, pid_t pid)
{
	auto_free char *comm = NULL;

	if (error_errnum(error) != EEXIST || procfs_read(pid, "comm", &comm, NULL) < 0)
		return error;
	comm[strcspn(comm, "\n")] = '\0';
	return error_hint(error, "PID %d is taken by %s: end that, or restore into a PID namespace of its own", pid,
	                  comm);
}

/* As clone_as(), but a PID whose holder has just died becomes free soon. */
static pid_t clone_when_free(pid_t pid)
{
	for (int waited_ms = 0;; waited_ms++) {
		pid_t child = clone_as(pid, 0);

		if (child >= 0 || errno != EEXIST || waited_ms == DEAD_MS || !procfs_is_dead(pid))
			return child;
		usleep(1000);
		errno = EEXIST;
	}
}

static struct error *clone_and_wait(const struct nursery_request *request, struct progress *progress)
{
	pid_t own_session = getsid(0);
	bool needs_leader = request->session && request->session != request->pid && request->session != own_session;
	pid_t first = clone_when_free(needs_leader ? request->session : request->pid);

	if (first == 0 && needs_leader)
		be_leader(request, progress);
	if (first == 0)
		be_task(request, progress);
	if (first < 0) {
		pid_t wanted = needs_leader ? request->session : request->pid;

		return name_holder(error_new(errno, "clone3 with PID %d", wanted), wanted);
	}
	struct error *error = wait_for(request, first, progress);
	if (needs_leader || error) {
		kill(first, SIGKILL);
		while (waitpid(first, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	return error ? name_holder(error, request->pid) : NULL;
}

struct error *nursery_clone(const struct nursery_request *request, pid_t *ret_pid)
{
	struct progress *progress =
		mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (progress == MAP_FAILED)
		return error_new(errno, "mmap");
	struct error *error = clone_and_wait(request, progress);
	munmap(progress, sizeof(*progress));
	if (!error)
		*ret_pid = request->pid;
	return error;
}
