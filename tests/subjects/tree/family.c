/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A family: a child with a session and a thread of its own, its child in a group of its own, and two children that have
 * ended and whose status waits. What they share is looked at from both ends: a pipe, a pair of sockets, an offset in a
 * file, shared memory with a descriptor and without one; and that memory which was copied is not shared.
 *
 * The first process is told to look, tells the others by signals, and has their exit status. Who finds something wrong says so
 * in the shared memory. The traps: a descriptor that is made twice has an offset of its own, a zombie has to be the child of
 * the right parent, and a wait for a child that isn't one ends at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "subject.h"

enum { EXIT_STATUS = 7, OFFSET = 0x12345, PRIVATE = 0x5a5a };

struct person {
	pid_t pid, parent, group, session;
};

/* Shared by all. */
struct board {
	char complaint[256];
	struct person child, grandchild;
	int set_up;  /* how many are ready */
	int written; /* by each, after it was carried */
};

struct family {
	const struct subject *subject;
	struct board *board;
	int *memfd_page; /* mapped before the forks */
	int own;         /* copied by each fork, and different in each */
	int pipe[2], pair[2], file, memfd;
	pid_t first, failed, killed, child;
};

static struct person describe(void)
{
	return (struct person){.pid = getpid(), .parent = getppid(), .group = getpgrp(), .session = getsid(0)};
}

__attribute__((format(printf, 2, 3), noreturn)) static void complain(const struct family *family, const char *format,
                                                                     ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(family->board->complaint, sizeof(family->board->complaint), format, args);
	va_end(args);
	if (getpid() == family->first)
		subject_fail(family->subject, "%s", family->board->complaint);
	_exit(1);
}

static void look_at_self(const struct family *family, const char *who, const struct person *before)
{
	const struct person now = describe();

	if (memcmp(&now, before, sizeof(now)) != 0)
		complain(family, "%s: PID %d, parent %d, group %d, session %d instead of %d, %d, %d, %d", who, now.pid,
		         now.parent, now.group, now.session, before->pid, before->parent, before->group,
		         before->session);
}

static void wait_to_look(const struct family *family)
{
	sigset_t look;

	__atomic_add_fetch(&family->board->set_up, 1, __ATOMIC_RELEASE);
	sigemptyset(&look);
	sigaddset(&look, SIGUSR1);
	while (sigwaitinfo(&look, NULL) != SIGUSR1)
		continue;
}

static void *sleep_on(void *data)
{
	(void)data;
	for (;;)
		pause();
	return NULL;
}

static void add_to_shared(const struct family *family)
{
	__atomic_add_fetch(&family->board->written, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(family->memfd_page, 1, __ATOMIC_RELAXED);
}

/* ---- The grandchild ---- */

/* It has the writing end of the pipe and one of the sockets alone. */
static void be_grandchild(struct family *family)
{
	char word[16] = "";

	setpgid(0, 0);
	close(family->pipe[0]);
	close(family->pair[0]);
	family->own = PRIVATE + 2;
	family->board->grandchild = describe();
	if (write(family->pipe[1], "before", 6) != 6 || send(family->pair[1], "early", 5, 0) != 5)
		complain(family, "grandchild: errno %d", errno);
	wait_to_look(family);
	look_at_self(family, "grandchild", &family->board->grandchild);
	if (family->own != PRIVATE + 2)
		complain(family, "grandchild: its own memory is %d", family->own);
	if (recv(family->pair[1], word, sizeof(word), MSG_DONTWAIT) != 4 || memcmp(word, "down", 4) != 0)
		complain(family, "grandchild: no word from above: '%s', errno %d", word, errno);
	if (write(family->pipe[1], "after", 5) != 5)
		complain(family, "grandchild: its pipe: errno %d", errno);
	add_to_shared(family);
	_exit(0);
}

/* ---- The child ---- */

static void expect_end(const struct family *family, const char *who, pid_t pid, int expected)
{
	int status = 0;
	pid_t ended = waitpid(pid, &status, 0);

	/* What it says itself is worth more. */
	if (*family->board->complaint)
		complain(family, "%s", strdup(family->board->complaint));
	if (ended != pid || status != expected)
		complain(family, "%s: status %#x instead of %#x, errno %d", who, (unsigned)status, (unsigned)expected,
		         errno);
}

static void be_child(struct family *family)
{
	pthread_t thread;
	pid_t grandchild;

	setsid();
	if (pthread_create(&thread, NULL, sleep_on, NULL) != 0)
		complain(family, "child: no thread");
	grandchild = fork();
	if (grandchild == 0)
		be_grandchild(family);
	close(family->pipe[0]);
	close(family->pipe[1]);
	close(family->pair[0]);
	close(family->pair[1]);
	family->own = PRIVATE + 1;
	family->board->child = describe();
	wait_to_look(family);
	look_at_self(family, "child", &family->board->child);
	if (family->own != PRIVATE + 1)
		complain(family, "child: its own memory is %d", family->own);
	if (lseek(family->file, 1, SEEK_CUR) != OFFSET + 1)
		complain(family, "child: the offset of the file is %ld", (long)lseek(family->file, 0, SEEK_CUR));
	add_to_shared(family);
	kill(grandchild, SIGUSR1);
	expect_end(family, "grandchild as seen by the child", grandchild, 0);
	_exit(0);
}

/* ---- The first one ---- */

static void make(struct family *family)
{
	family->board = mmap(NULL, sizeof(*family->board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	family->memfd = memfd_create("family", 0);
	family->file = open("/etc/passwd", O_RDONLY);
	if (family->board == MAP_FAILED || family->memfd < 0 || ftruncate(family->memfd, 8192) != 0 ||
	    pipe(family->pipe) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, family->pair) != 0 ||
	    lseek(family->file, OFFSET, SEEK_SET) != OFFSET)
		subject_fail(family->subject, "errno %d", errno);
	family->memfd_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, family->memfd, 4096);
	if (family->memfd_page == MAP_FAILED)
		subject_fail(family->subject, "memfd: errno %d", errno);
	*family->memfd_page = PRIVATE;
}

static pid_t start_child(struct family *family, void (*be)(struct family *family))
{
	pid_t pid = fork();

	if (pid == 0) {
		be(family);
		_exit(EXIT_STATUS);
	}
	if (pid < 0)
		subject_fail(family->subject, "fork: errno %d", errno);
	return pid;
}

static void fail(struct family *family)
{
	(void)family;
}

static void be_killed(struct family *family)
{
	(void)family;
	signal(SIGTERM, SIG_DFL);
	raise(SIGTERM);
}

static void wait_for_zombie(const struct family *family, pid_t pid)
{
	siginfo_t info;

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0)
		subject_fail(family->subject, "waitid: errno %d", errno);
}

static void start_all(struct family *family)
{
	family->failed = start_child(family, fail);
	family->killed = start_child(family, be_killed);
	family->child = start_child(family, be_child);
	wait_for_zombie(family, family->failed);
	wait_for_zombie(family, family->killed);
	close(family->pipe[1]);
	close(family->pair[1]);
	family->own = PRIVATE;
	while (__atomic_load_n(&family->board->set_up, __ATOMIC_ACQUIRE) < 2)
		usleep(1000);
	if (send(family->pair[0], "down", 4, 0) != 4)
		subject_fail(family->subject, "send: errno %d", errno);
}

static void look_at_ends(const struct family *family)
{
	char text[32] = "";

	expect_end(family, "who failed", family->failed, EXIT_STATUS << 8);
	expect_end(family, "who was killed", family->killed, SIGTERM);
	kill(family->child, SIGUSR1);
	expect_end(family, "child", family->child, 0);
	if (read(family->pipe[0], text, sizeof(text)) != 11 || memcmp(text, "beforeafter", 11) != 0)
		complain(family, "the pipe has '%s'", text);
	if (read(family->pipe[0], text, sizeof(text)) != 0)
		complain(family, "the pipe has somebody at its other end");
	if (recv(family->pair[0], text, sizeof(text), 0) != 5 || memcmp(text, "early", 5) != 0)
		complain(family, "the socket has '%s'", text);
}

static void look_at_sharing(const struct family *family)
{
	int through_fd = 0;

	if (lseek(family->file, 0, SEEK_CUR) != OFFSET + 1)
		complain(family, "the offset is %ld, not where the child left it",
		         (long)lseek(family->file, 0, SEEK_CUR));
	if (family->board->written != 2 || *family->memfd_page != PRIVATE + 2)
		complain(family, "shared memory: %d and %#x", family->board->written, (unsigned)*family->memfd_page);
	if (pread(family->memfd, &through_fd, sizeof(through_fd), 4096) != sizeof(through_fd) ||
	    through_fd != PRIVATE + 2)
		complain(family, "the memfd has %#x", (unsigned)through_fd);
	if (family->own != PRIVATE)
		complain(family, "its own memory is %d", family->own);
}

int main(int argc, char **argv)
{
	const struct subject subject = subject_begin(argc, argv);
	struct family family = {.subject = &subject, .first = getpid()};

	make(&family);
	start_all(&family);
	struct person self = describe();
	subject_ready(&subject);
	/* Who waits for it on another host is none of its business. */
	self.parent = getppid();
	look_at_self(&family, "the first one", &self);
	look_at_ends(&family);
	look_at_sharing(&family);
	return subject_pass(&subject);
}
