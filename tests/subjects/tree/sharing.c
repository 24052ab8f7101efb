/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What clone(2) lets processes share besides memory: a child that has the table of descriptors together with its parent, one
 * that has working folder and umask together with it, one with both, and a sibling that has the table together with a child
 * (CLONE_PARENT) but not with the parent. Who opens, closes or changes something does it for the others, too; and who shares
 * nothing sees nothing of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "subject.h"

enum { CHILDREN = 4, LATE_FD = 77, TWIN_FD = 78 };
static const unsigned long flags_of[CHILDREN] = {CLONE_FILES, CLONE_FS, CLONE_FILES | CLONE_FS, 0};

/* Shared by all. */
struct board {
	char complaint[256];
	volatile int turn; /* each looks when its turn comes */
	int ready;
	pid_t twin; /* the sibling of the last child, with which that shares its table */
};

struct sharing {
	const struct subject *subject;
	struct board *board;
	pid_t children[CHILDREN];
};

__attribute__((format(printf, 2, 3), noreturn)) static void complain(const struct sharing *sharing, const char *format,
                                                                     ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): just begun */
	vsnprintf(sharing->board->complaint, sizeof(sharing->board->complaint), format, args);
	va_end(args);
	_exit(1);
}

/* As fork(2), without handlers of libc. */
static pid_t clone_with(unsigned long flags)
{
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static void wait_for_turn(const struct sharing *sharing, int turn)
{
	while (sharing->board->turn < turn)
		usleep(1000);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static unsigned current_umask(void)
{
	unsigned mask = umask(0);

	umask(mask);
	return mask;
}

/* The twin opens what the last child then has. */
static void be_twin(struct sharing *sharing)
{
	__atomic_add_fetch(&sharing->board->ready, 1, __ATOMIC_RELEASE);
	wait_for_turn(sharing, CHILDREN + 1);
	if (is_open(LATE_FD))
		complain(sharing, "the twin has the descriptors of others");
	if (dup2(0, TWIN_FD) != TWIN_FD)
		complain(sharing, "twin: dup2: errno %d", errno);
	_exit(0);
}

static void be_child(struct sharing *sharing, int number)
{
	unsigned long flags = flags_of[number];

	if (number == CHILDREN - 1) {
		pid_t twin = clone_with(CLONE_FILES | CLONE_PARENT);

		if (twin == 0)
			be_twin(sharing);
		sharing->board->twin = twin;
	}
	__atomic_add_fetch(&sharing->board->ready, 1, __ATOMIC_RELEASE);
	wait_for_turn(sharing, number + 1);
	if (is_open(LATE_FD) != !!(flags & CLONE_FILES))
		complain(sharing, "child %d: descriptor %d is %s", number, LATE_FD,
		         is_open(LATE_FD) ? "open" : "closed");
	if ((current_umask() == 0123) != !!(flags & CLONE_FS))
		complain(sharing, "child %d: umask %o", number, current_umask());
	if (flags & CLONE_FS && chdir("/etc") != 0)
		complain(sharing, "child %d: chdir: errno %d", number, errno);
	if (number == CHILDREN - 1) {
		wait_for_turn(sharing, CHILDREN + 2);
		if (!is_open(TWIN_FD))
			complain(sharing, "the last child hasn't what its twin has opened");
	}
	_exit(0);
}

static void set_up(struct sharing *sharing)
{
	sharing->board = mmap(NULL, sizeof(*sharing->board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sharing->board == MAP_FAILED || chdir("/") != 0)
		subject_fail(sharing->subject, "errno %d", errno);
	umask(022);
	for (int i = 0; i < CHILDREN; i++) {
		sharing->children[i] = clone_with(flags_of[i]);
		if (sharing->children[i] == 0)
			be_child(sharing, i);
		if (sharing->children[i] < 0)
			subject_fail(sharing->subject, "clone: errno %d", errno);
	}
	while (__atomic_load_n(&sharing->board->ready, __ATOMIC_ACQUIRE) < CHILDREN + 1)
		usleep(1000);
}

static void reap(const struct sharing *sharing, pid_t pid, const char *who)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid || status != 0)
		subject_fail(sharing->subject, "%s: status %#x, %s", who, (unsigned)status, sharing->board->complaint);
}

static void look(struct sharing *sharing)
{
	char folder[64] = "";

	if (dup2(0, LATE_FD) != LATE_FD)
		subject_fail(sharing->subject, "dup2: errno %d", errno);
	umask(0123);
	for (int i = 0; i < CHILDREN - 1; i++) {
		sharing->board->turn = i + 1;
		reap(sharing, sharing->children[i], "a child");
	}
	if (!getcwd(folder, sizeof(folder)) || strcmp(folder, "/etc") != 0)
		subject_fail(sharing->subject, "it isn't where its child has gone: %s", folder);
	sharing->board->turn = CHILDREN + 1;
	reap(sharing, sharing->board->twin, "the twin");
	sharing->board->turn = CHILDREN + 2;
	reap(sharing, sharing->children[CHILDREN - 1], "the last child");
	if (is_open(TWIN_FD))
		subject_fail(sharing->subject, "it has what only its children share");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct sharing sharing = {.subject = &subject};

	if (open("/dev/null", O_RDONLY) < 0) /* descriptor 0 */
		subject_fail(&subject, "errno %d", errno);
	set_up(&sharing);
	subject_ready(&subject);
	look(&sharing);
	return subject_pass(&subject);
}
