/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System calls that wait for something without a time-out: they still wait when the program has been carried, and what
 * ends them then is what they waited for: bytes, a connection, a lock, or a signal, whose handler runs first. A call that
 * has a signal mask of its own gives the thread back the one that it had.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "subject.h"

struct waiter {
	const char *name;
	void (*wait)(struct waiter *waiter);
	int fd;         /* what it waits for */
	int other_fd;   /* what ends that */
	bool by_signal; /* SIGUSR2 ends it */
	const char *path;
	pthread_mutex_t *mutex;
	long result;
	int result_errno;
	atomic_bool is_over;
	atomic_int tid;
	pthread_t thread;
};

static atomic_int handled;

static void handle(int signal)
{
	(void)signal;
	handled++;
}

static void wait_read(struct waiter *waiter)
{
	char byte;

	waiter->result = read(waiter->fd, &byte, 1);
}

static void wait_readv(struct waiter *waiter)
{
	char bytes[2];
	const struct iovec vectors[2] = {{&bytes[0], 1}, {&bytes[1], 1}};

	waiter->result = readv(waiter->fd, vectors, 2);
}

static void wait_eventfd(struct waiter *waiter)
{
	uint64_t value = 0;

	waiter->result = read(waiter->fd, &value, sizeof(value)) == sizeof(value) ? (long)value : -1;
}

static void wait_write(struct waiter *waiter)
{
	waiter->result = write(waiter->fd, "x", 1);
}

static void wait_poll(struct waiter *waiter)
{
	struct pollfd polled = {.fd = waiter->fd, .events = POLLIN};

	waiter->result = poll(&polled, 1, -1);
}

static void wait_epoll(struct waiter *waiter)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};

	epoll_ctl(epoll, EPOLL_CTL_ADD, waiter->fd, &event);
	waiter->result = epoll_wait(epoll, &event, 1, -1);
}

static void wait_accept(struct waiter *waiter)
{
	waiter->result = accept(waiter->fd, NULL, NULL) >= 0;
}

static void wait_receive(struct waiter *waiter)
{
	char byte;

	waiter->result = recv(waiter->fd, &byte, 1, 0);
}

static void wait_pause(struct waiter *waiter)
{
	waiter->result = pause();
}

static void wait_suspend(struct waiter *waiter)
{
	sigset_t none;

	sigemptyset(&none);
	waiter->result = sigsuspend(&none);
}

/* SIGUSR2 is blocked but for the call, which is to end with EINTR by it. */
static void wait_masked(struct waiter *waiter, long (*call)(const sigset_t *mask))
{
	sigset_t one;
	sigset_t none;
	sigset_t now;

	sigemptyset(&none);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	waiter->result = call(&none);
	int saved_errno = errno;
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	if (sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGUSR1) != 1)
		waiter->result = -2;
	errno = saved_errno;
}

static long call_ppoll(const sigset_t *mask)
{
	return ppoll(NULL, 0, NULL, mask);
}

static void wait_ppoll(struct waiter *waiter)
{
	wait_masked(waiter, call_ppoll);
}

static long call_pselect(const sigset_t *mask)
{
	return pselect(0, NULL, NULL, NULL, NULL, mask);
}

static void wait_pselect(struct waiter *waiter)
{
	wait_masked(waiter, call_pselect);
}

static long call_epoll_pwait(const sigset_t *mask)
{
	struct epoll_event event;

	return epoll_pwait(epoll_create1(EPOLL_CLOEXEC), &event, 1, -1, mask);
}

static void wait_epoll_pwait(struct waiter *waiter)
{
	wait_masked(waiter, call_epoll_pwait);
}

static long call_epoll_pwait2(const sigset_t *mask)
{
	struct epoll_event event;

	return epoll_pwait2(epoll_create1(EPOLL_CLOEXEC), &event, 1, NULL, mask);
}

static void wait_epoll_pwait2(struct waiter *waiter)
{
	wait_masked(waiter, call_epoll_pwait2);
}

static void wait_select(struct waiter *waiter)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(waiter->fd, &set);
	waiter->result = select(waiter->fd + 1, &set, NULL, NULL, NULL);
}

static void wait_receive_many(struct waiter *waiter)
{
	char byte;
	struct iovec vector = {&byte, 1};
	struct mmsghdr message = {.msg_hdr = {.msg_iov = &vector, .msg_iovlen = 1}};

	waiter->result = recvmmsg(waiter->fd, &message, 1, 0, NULL);
}

static void wait_splice(struct waiter *waiter)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) == 0)
		waiter->result = splice(waiter->fd, NULL, ends[1], NULL, 1, 0);
}

static void wait_open(struct waiter *waiter)
{
	waiter->result = open(waiter->path, O_RDONLY | O_CLOEXEC) >= 0;
}

static void wait_flock(struct waiter *waiter)
{
	waiter->result = flock(waiter->fd, LOCK_EX);
}

static const struct flock whole_file = {.l_type = F_WRLCK};

static void wait_posix_lock(struct waiter *waiter)
{
	waiter->result = fcntl(waiter->fd, F_SETLKW, &whole_file);
}

static void wait_ofd_lock(struct waiter *waiter)
{
	waiter->result = fcntl(waiter->fd, F_OFD_SETLKW, &whole_file);
}

static void wait_pi_mutex(struct waiter *waiter)
{
	waiter->result = pthread_mutex_lock(waiter->mutex);
}

static uint32_t words[2]; /* somebody waits for any of the two */

static void wait_words(struct waiter *waiter)
{
	struct futex_waitv waits[2] = {
		{.uaddr = (uintptr_t)&words[0], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
		{.uaddr = (uintptr_t)&words[1], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
	};

	waiter->result = syscall(SYS_futex_waitv, waits, 2, 0, NULL, CLOCK_MONOTONIC);
}

static void *run(void *context)
{
	struct waiter *waiter = context;

	waiter->tid = gettid();
	waiter->wait(waiter);
	waiter->result_errno = errno;
	waiter->is_over = true;
	return NULL;
}

static void make_pipe(struct waiter *waiter)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		abort();
	waiter->fd = ends[0];
	waiter->other_fd = ends[1];
}

/* Waits for room, which a byte that is read makes. */
static void make_full_pipe(struct waiter *waiter)
{
	static const char page[4096];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		abort();
	for (int left = fcntl(ends[1], F_SETPIPE_SZ, sizeof(page)); left > 0; left -= (int)sizeof(page))
		if (write(ends[1], page, sizeof(page)) != sizeof(page))
			abort();
	waiter->fd = ends[1];
	waiter->other_fd = ends[0];
}

static void make_eventfd(struct waiter *waiter)
{
	waiter->fd = waiter->other_fd = eventfd(0, EFD_CLOEXEC);
}

static void make_socket(struct waiter *waiter, int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	waiter->fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (bind(waiter->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		abort();
}

/* Its port gets a byte or a connection. */
static void reach(const struct waiter *waiter, int type)
{
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (getsockname(waiter->fd, (struct sockaddr *)&address, &size) != 0 ||
	    connect(fd, (struct sockaddr *)&address, size) != 0 || (type == SOCK_DGRAM && send(fd, "x", 1, 0) != 1))
		abort();
}

static int open_new(const struct subject *subject, const char *name)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, name);
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* A file that is open twice, and locked by the other one. */
static void make_locked(const struct subject *subject, struct waiter *waiter, int how)
{
	waiter->fd = open_new(subject, waiter->name);
	waiter->other_fd = open_new(subject, waiter->name);
	if (how == LOCK_EX ? flock(waiter->other_fd, LOCK_EX) != 0
	                   : fcntl(waiter->other_fd, F_OFD_SETLK, &whole_file) != 0)
		abort();
}

static void make_fifo(const struct subject *subject, struct waiter *waiter)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/fifo", subject->dir);
	if (mkfifo(path, 0600) != 0)
		abort();
	waiter->path = path;
}

static void make_pi_mutex(struct waiter *waiter)
{
	static pthread_mutex_t mutex;
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	if (pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) != 0 ||
	    pthread_mutex_init(&mutex, &attributes) != 0 || pthread_mutex_lock(&mutex) != 0)
		abort();
	waiter->mutex = &mutex;
}

enum {
	READ,
	READV,
	EVENT,
	WRITE,
	POLL,
	EPOLL,
	ACCEPT,
	RECEIVE,
	PAUSE,
	SUSPEND,
	PPOLL,
	PSELECT,
	EPOLL_PWAIT,
	EPOLL_PWAIT2,
	SELECT,
	RECEIVE_MANY,
	SPLICE,
	OPEN,
	FLOCK,
	POSIX_LOCK,
	OFD_LOCK,
	PI_MUTEX,
	WORDS,
	COUNT
};

static void set_up_locks(const struct subject *subject, struct waiter waiters[COUNT])
{
	make_fifo(subject, &waiters[OPEN]);
	make_locked(subject, &waiters[FLOCK], LOCK_EX);
	make_locked(subject, &waiters[POSIX_LOCK], F_OFD_SETLK);
	make_locked(subject, &waiters[OFD_LOCK], F_OFD_SETLK);
	make_pi_mutex(&waiters[PI_MUTEX]);
}

static void set_up(struct waiter waiters[COUNT])
{
	make_pipe(&waiters[SELECT]);
	make_pipe(&waiters[SPLICE]);
	make_socket(&waiters[RECEIVE_MANY], SOCK_DGRAM);
	for (size_t i = PPOLL; i <= EPOLL_PWAIT2; i++)
		waiters[i].by_signal = true;
	make_pipe(&waiters[READ]);
	make_pipe(&waiters[READV]);
	make_eventfd(&waiters[EVENT]);
	make_full_pipe(&waiters[WRITE]);
	make_pipe(&waiters[POLL]);
	make_pipe(&waiters[EPOLL]);
	make_socket(&waiters[ACCEPT], SOCK_STREAM);
	listen(waiters[ACCEPT].fd, 4);
	make_socket(&waiters[RECEIVE], SOCK_DGRAM);
	waiters[PAUSE].by_signal = waiters[SUSPEND].by_signal = true;
}

static void end_waits_for_locks(struct waiter waiters[COUNT])
{
	const struct flock unlocked = {.l_type = F_UNLCK};

	if (write(waiters[SELECT].other_fd, "x", 1) != 1 || write(waiters[SPLICE].other_fd, "x", 1) != 1 ||
	    open(waiters[OPEN].path, O_WRONLY | O_CLOEXEC) < 0 || flock(waiters[FLOCK].other_fd, LOCK_UN) != 0 ||
	    fcntl(waiters[POSIX_LOCK].other_fd, F_OFD_SETLK, &unlocked) != 0 ||
	    fcntl(waiters[OFD_LOCK].other_fd, F_OFD_SETLK, &unlocked) != 0 ||
	    pthread_mutex_unlock(waiters[PI_MUTEX].mutex) != 0)
		abort();
	words[1] = 1;
	if (syscall(SYS_futex, &words[1], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 1)
		abort();
}

static void end_waits(struct waiter waiters[COUNT])
{
	const uint64_t five = 5;
	char page[4096];

	if (write(waiters[READ].other_fd, "x", 1) != 1 || write(waiters[READV].other_fd, "xy", 2) != 2 ||
	    write(waiters[EVENT].other_fd, &five, sizeof(five)) != sizeof(five) ||
	    read(waiters[WRITE].other_fd, page, sizeof(page)) != sizeof(page) ||
	    write(waiters[POLL].other_fd, "x", 1) != 1 || write(waiters[EPOLL].other_fd, "x", 1) != 1)
		abort();
	reach(&waiters[ACCEPT], SOCK_STREAM);
	reach(&waiters[RECEIVE], SOCK_DGRAM);
	reach(&waiters[RECEIVE_MANY], SOCK_DGRAM);
	end_waits_for_locks(waiters);
	for (size_t i = 0; i < COUNT; i++)
		if (waiters[i].by_signal)
			pthread_kill(waiters[i].thread, SIGUSR2);
}

/* All sleep but this one: field 3 of proc_pid_stat(5). */
static bool is_asleep(pid_t tid)
{
	char path[64];
	char text[512] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	FILE *file = fopen(path, "re");
	if (!file || !fgets(text, sizeof(text), file) || fclose(file) != 0)
		abort();
	const char *end = strrchr(text, ')');
	return end && end[2] == 'S';
}

static void wait_until_asleep(const struct waiter waiters[COUNT])
{
	for (size_t i = 0; i < COUNT; i++)
		while (waiters[i].tid == 0 || !is_asleep(waiters[i].tid))
			usleep(1000);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	struct waiter waiters[COUNT] = {
		[READ] = {.name = "read", .wait = wait_read},
		[READV] = {.name = "readv", .wait = wait_readv},
		[EVENT] = {.name = "eventfd", .wait = wait_eventfd},
		[WRITE] = {.name = "write", .wait = wait_write},
		[POLL] = {.name = "poll", .wait = wait_poll},
		[EPOLL] = {.name = "epoll_wait", .wait = wait_epoll},
		[ACCEPT] = {.name = "accept", .wait = wait_accept},
		[RECEIVE] = {.name = "recv", .wait = wait_receive},
		[PAUSE] = {.name = "pause", .wait = wait_pause},
		[SUSPEND] = {.name = "sigsuspend", .wait = wait_suspend},
		[PPOLL] = {.name = "ppoll", .wait = wait_ppoll},
		[PSELECT] = {.name = "pselect", .wait = wait_pselect},
		[EPOLL_PWAIT] = {.name = "epoll_pwait", .wait = wait_epoll_pwait},
		[EPOLL_PWAIT2] = {.name = "epoll_pwait2", .wait = wait_epoll_pwait2},
		[SELECT] = {.name = "select", .wait = wait_select},
		[RECEIVE_MANY] = {.name = "recvmmsg", .wait = wait_receive_many},
		[SPLICE] = {.name = "splice", .wait = wait_splice},
		[OPEN] = {.name = "open", .wait = wait_open},
		[FLOCK] = {.name = "flock", .wait = wait_flock},
		[POSIX_LOCK] = {.name = "F_SETLKW", .wait = wait_posix_lock},
		[OFD_LOCK] = {.name = "F_OFD_SETLKW", .wait = wait_ofd_lock},
		[PI_MUTEX] = {.name = "FUTEX_LOCK_PI", .wait = wait_pi_mutex},
		[WORDS] = {.name = "futex_waitv", .wait = wait_words},
	};
	static const long expected[COUNT] = {
		[READ] = 1,         [READV] = 2,    [EVENT] = 5,        [WRITE] = 1,         [POLL] = 1,
		[EPOLL] = 1,        [ACCEPT] = 1,   [RECEIVE] = 1,      [PAUSE] = -1,        [SUSPEND] = -1,
		[PPOLL] = -1,       [PSELECT] = -1, [EPOLL_PWAIT] = -1, [EPOLL_PWAIT2] = -1, [SELECT] = 1,
		[RECEIVE_MANY] = 1, [SPLICE] = 1,   [OPEN] = 1,         [FLOCK] = 0,         [WORDS] = 1,
	};

	sigaction(SIGUSR2, &action, NULL);
	set_up(waiters);
	set_up_locks(&subject, waiters);
	for (size_t i = 0; i < COUNT; i++)
		if (pthread_create(&waiters[i].thread, NULL, run, &waiters[i]) != 0)
			subject_fail(&subject, "%s: pthread_create", waiters[i].name);
	wait_until_asleep(waiters);

	subject_ready(&subject);

	for (size_t i = 0; i < COUNT; i++)
		if (waiters[i].is_over)
			subject_fail(&subject, "%s: %ld, errno %d before its time", waiters[i].name, waiters[i].result,
			             waiters[i].result_errno);
	end_waits(waiters);
	int by_signal = 0;
	for (size_t i = 0; i < COUNT; i++) {
		by_signal += waiters[i].by_signal;
		pthread_join(waiters[i].thread, NULL);
		if (waiters[i].result != expected[i] || (expected[i] < 0 && waiters[i].result_errno != EINTR))
			subject_fail(&subject, "%s: %ld, errno %d", waiters[i].name, waiters[i].result,
			             waiters[i].result_errno);
	}
	if (handled != by_signal)
		subject_fail(&subject, "%d signals were handled, not %d", handled, by_signal);
	return subject_pass(&subject);
}
