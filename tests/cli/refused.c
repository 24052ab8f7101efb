/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * refused KIND FILE: sets up a state that godwit doesn't carry, makes FILE when it has it, and counts in FILE how often it
 * was sent SIGUSR1, so that a refusal can be seen to have done no harm.
 */
#include <asm/ldt.h>
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "filter.h"

static void have_dispatch(void)
{
	enum { SET_SYSCALL_USER_DISPATCH = 59, ON = 1 };

	/* The whole of the program is exempt. */
	if (prctl(SET_SYSCALL_USER_DISPATCH, ON, 0, -4096L, NULL) != 0)
		err(77, "PR_SET_SYSCALL_USER_DISPATCH");
}

static void have_segment(void)
{
	const struct user_desc segment = {.entry_number = 3, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};

	if (syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)) != 0)
		err(77, "modify_ldt");
}

static void have_ports(void)
{
	if (ioperm(0x378, 3, 1) != 0)
		err(77, "ioperm");
}

/* No listener is needed for the filter to be one that asks: the call would then fail with ENOSYS. */
static void have_notifying_filter(void)
{
	if (filter_call(SYS_getppid, SECCOMP_RET_USER_NOTIF, 1, 0, 0) != 0)
		err(77, "seccomp");
}

/* Nothing that needs the time is called from here on. */
static void have_no_vdso(void)
{
	enum { VDSO_BYTES = 2 * 4096 };

	if (munmap((void *)getauxval(AT_SYSINFO_EHDR), VDSO_BYTES) != 0)
		err(77, "munmap");
}

static void have_thread_clock(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0)
		err(1, "timer_create");
}

static void *wait_for_semaphore(void *id)
{
	struct sembuf down = {.sem_num = 2, .sem_op = -1};

	semop(*(int *)id, &down, 1);
	return NULL;
}

/* Nobody has ever used it. */
static void have_semaphores(void)
{
	static int id;
	pthread_t thread;

	id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
	if (id < 0 || pthread_create(&thread, NULL, wait_for_semaphore, &id) != 0)
		err(77, "semget");
	while (semctl(id, 2, GETNCNT) == 0)
		usleep(1000);
}

/* For longer than it takes to attach it. */
static void have_unattached_memory(void)
{
	struct shmid_ds segment = {.shm_ctime = 0};
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);

	if (id < 0 || shmctl(id, IPC_STAT, &segment) < 0)
		err(77, "shmget");
	while (time(NULL) < segment.shm_ctime + 2)
		usleep(1000);
}

/* Nothing is registered with it. */
static void have_idle_userfaultfd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		err(77, "userfaultfd");
}

static void have_posix_queue(void)
{
	if (mq_open("/godwit-refused", O_RDWR | O_CREAT, 0600, NULL) < 0)
		err(77, "mq_open");
}

static void have_aio(void)
{
	unsigned long context = 0;

	if (syscall(SYS_io_setup, 8, &context) < 0)
		err(77, "io_setup");
}

static void have_io_uring(void)
{
	uint32_t parameters[30] = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 4, parameters);

	if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		err(77, "io_uring_setup");
	close(fd);
}

static void have_secret(void)
{
	enum { MEMFD_SECRET = 447 };
	int fd = (int)syscall(MEMFD_SECRET, 0);

	if (fd < 0 || ftruncate(fd, 4096) < 0 ||
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		err(77, "memfd_secret");
	close(fd);
}

/* The area stays registered as long as the descriptor is open. */
static void have_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */);
	struct uffdio_api api = {.api = UFFD_API};
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {.range = {(uintptr_t)at, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		err(77, "userfaultfd");
}

/* Another process with copies of all, which isn't a descendant, and ends when this one does. */
static void have_relative(void)
{
	pid_t pid = getpid();

	if (fork() == 0) {
		struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

		if (fork() == 0)
			poll(&end, 1, -1);
		_exit(0);
	}
	if (wait(NULL) < 0)
		err(1, "wait");
}

static void have_shared_memory_with_a_relative(void)
{
	if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		err(1, "mmap");
	have_relative();
}

static void have_memfd_with_a_relative(void)
{
	if (memfd_create("common", 0) < 0)
		err(1, "memfd_create");
	have_relative();
}

/* One has sent something, the other one has taken it. */
static void have_message_queue_with_a_relative(void)
{
	const long message[2] = {1, 2};
	int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	struct msqid_ds queue = {.msg_lrpid = 0};
	pid_t pid = getpid();

	if (id < 0 || msgsnd(id, message, sizeof(message[1]), 0) != 0)
		err(77, "msgget");
	if (fork() == 0) {
		struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
		long taken[2];

		if (fork() == 0 && msgrcv(id, taken, sizeof(taken[1]), 0, 0) > 0)
			poll(&end, 1, -1);
		_exit(0);
	}
	if (wait(NULL) < 0)
		err(1, "wait");
	while (msgctl(id, IPC_STAT, &queue) == 0 && queue.msg_lrpid == 0)
		usleep(1000);
}

static void never_called(void)
{
	_exit(3);
}

/* As a uprobe does it, which isn't hit. */
static void have_breakpoint(void)
{
	void (*volatile code)(void) = never_called;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0 || pwrite(fd, "\xcc", 1, (off_t)(uintptr_t)code) != 1)
		err(77, "write to code");
	close(fd);
}

static const struct {
	const char *name;
	void (*set_up)(void);
} kinds[] = {
	{"aio", have_aio},
	{"breakpoint", have_breakpoint},
	{"common-memfd", have_memfd_with_a_relative},
	{"common-memory", have_shared_memory_with_a_relative},
	{"dispatch", have_dispatch},
	{"idle-userfaultfd", have_idle_userfaultfd},
	{"io_uring", have_io_uring},
	{"ldt", have_segment},
	{"message-queue", have_message_queue_with_a_relative},
	{"no-vdso", have_no_vdso},
	{"notify", have_notifying_filter},
	{"ports", have_ports},
	{"posix-queue", have_posix_queue},
	{"secret", have_secret},
	{"semaphores", have_semaphores},
	{"unattached-memory", have_unattached_memory},
	{"thread-clock", have_thread_clock},
	{"userfaultfd", have_userfaultfd},
};

static void write_count(const char *path, int count)
{
	char draft[4096];

	snprintf(draft, sizeof(draft), "%s.new", path);
	FILE *file = fopen(draft, "we");
	if (!file || fprintf(file, "%d\n", count) < 0 || fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			kinds[i].set_up();
	if (argc != 3)
		errx(2, "usage: %s KIND FILE", argv[0]);
	for (int count = 0;; count++) {
		write_count(argv[2], count);
		if (sigwaitinfo(&set, NULL) < 0)
			err(1, "sigwaitinfo");
	}
}
