/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * filtered_test HIJACK STAY [KILLS]: threads under seccomp(2) outlive a tracer that is killed at any instant.
 *
 * A program with a thread in strict mode, one whose filter kills it for all calls but a few, one whose filter makes most
 * calls fail, and one without is held by hijack, which is killed again and again. Then all threads must run on, with
 * their signal masks. Once all of its threads are filtered, once not. One of the filtered threads may map memory: if none
 * may, there is no safe way in (docs/limits.md).
 *
 * Then it is told to stay where it is when its tracer dies (stay.c), and let go, or ended.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, KILLS = 60, PATIENCE_MS = 30 * 1000, TICK_NS = 100 * 1000 };
enum kind { FREE, STRICT, KILLING, FAILING };

/* Shared with the program. */
struct board {
	atomic_long ticks[THREADS];
	atomic_int ready;
};

struct member {
	struct board *board;
	int number;
	enum kind kind;
	int timer;
};

/* ---- The program ---- */

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void filter(uint32_t otherwise)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read),
		ALLOW(write),
		ALLOW(rt_sigreturn),
		ALLOW(exit),
		ALLOW(mmap),
		ALLOW(munmap),
		BPF_STMT(BPF_RET | BPF_K, otherwise),
	};
	const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		err(1, "seccomp");
}

static void restrict_thread(enum kind kind)
{
	switch (kind) {
	case FREE:
		return;
	case STRICT:
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
			err(1, "strict mode");
		return;
	case KILLING:
		filter(SECCOMP_RET_KILL_PROCESS);
		return;
	case FAILING:
		filter(SECCOMP_RET_ERRNO | EPERM);
		return;
	}
}

static void *tick(void *arg)
{
	struct member *member = arg;
	uint64_t expirations;

	member->board->ready++;
	restrict_thread(member->kind);
	while (read(member->timer, &expirations, sizeof(expirations)) == sizeof(expirations))
		member->board->ticks[member->number]++;
	return NULL;
}

__attribute__((noreturn)) static void run(struct board *board, int all_filtered)
{
	static struct member members[THREADS];
	const struct itimerspec time = {.it_value = {0, TICK_NS}, .it_interval = {0, TICK_NS}};
	pthread_t thread;
	sigset_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	for (int i = THREADS; i-- > 0;) {
		members[i] = (struct member){board, i, (enum kind)((i + all_filtered) % THREADS), 0};
		if (all_filtered && members[i].kind == FREE)
			members[i].kind = KILLING;
		members[i].timer = timerfd_create(CLOCK_MONOTONIC, 0);
		if (members[i].timer < 0 || timerfd_settime(members[i].timer, 0, &time, NULL) != 0)
			err(1, "timer");
		if (i > 0 && pthread_create(&thread, NULL, tick, &members[i]) != 0)
			errx(1, "thread %d", i);
	}
	while (board->ready < THREADS - 1)
		sched_yield();
	tick(&members[0]);
	_exit(1);
}

/* ---- Outside ---- */

static void sleep_ns(long ns)
{
	const struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

/* Each thread must get on: also one that is stopped, or waits for something that no one will do. */
static void expect_progress(pid_t pid, struct board *board, int kill_number)
{
	for (int i = 0; i < THREADS; i++) {
		long before = board->ticks[i];

		for (int waited_ms = 0; board->ticks[i] < before + 2; waited_ms++) {
			if (waitpid(pid, NULL, WNOHANG) != 0)
				errx(1, "kill %d: the program has died", kill_number);
			if (waited_ms == PATIENCE_MS)
				errx(1, "kill %d: thread %d doesn't go on, of %d", kill_number, i, pid);
			sleep_ns(1000L * 1000);
		}
	}
}

static void expect_masks(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	int count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) { /* NOLINT(concurrency-mt-unsafe): our own stream */
		char line[256];
		char status[512];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(status, sizeof(status), "%s/%s/status", path, entry->d_name);
		FILE *file = fopen(status, "re");
		while (file && fgets(line, sizeof(line), file))
			if (strncmp(line, "SigBlk:", 7) == 0) {
				count++;
				if (strtoul(line + 7, NULL, 16) != 1UL << (SIGUSR2 - 1))
					errx(1, "thread %s: %s", entry->d_name, line);
			}
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	if (count != THREADS)
		errx(1, "%d threads are left", count);
}

/* False: it ended by itself, for the keeper of the one before is still clearing up. */
static bool kill_once(const char *hijack, pid_t pid, long after_ns)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", pid);
	pid_t tracer = fork();
	if (tracer == 0) {
		execl(hijack, hijack, number, "0", NULL);
		err(1, "%s", hijack);
	}
	sleep_ns(after_ns);
	kill(tracer, SIGKILL);
	int status;
	waitpid(tracer, &status, 0);
	return WIFSIGNALED(status);
}

static int run_stay(const char *stay, const char *what, pid_t pid)
{
	char number[16];
	int status;

	snprintf(number, sizeof(number), "%d", pid);
	pid_t child = fork();
	if (child == 0) {
		execl(stay, stay, what, number, NULL);
		err(1, "%s", stay);
	}
	waitpid(child, &status, 0);
	return status;
}

/* Long enough for hundreds of ticks. */
static void expect_standstill(const struct board *board)
{
	long before[THREADS];

	for (int i = 0; i < THREADS; i++)
		before[i] = board->ticks[i];
	sleep_ns(100L * 1000 * 1000);
	for (int i = 0; i < THREADS; i++)
		if (board->ticks[i] != before[i])
			errx(1, "thread %d has gone on by %ld ticks, and was to stay", i, board->ticks[i] - before[i]);
}

static void try_stay(const char *stay, int all_filtered)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	pid_t pid = fork();
	if (pid == 0)
		run(board, all_filtered);
	expect_progress(pid, board, 0);
	if (run_stay(stay, "take-back", pid) != 0)
		errx(1, "stay take-back");
	expect_progress(pid, board, 0);
	if (!WIFSIGNALED(run_stay(stay, "hold", pid)))
		errx(1, "stay hold");
	expect_standstill(board);
	if (run_stay(stay, "release", pid) != 0)
		errx(1, "stay release");
	expect_progress(pid, board, 0);
	expect_masks(pid);
	run_stay(stay, "hold", pid);
	expect_standstill(board);
	if (run_stay(stay, "end", pid) != 0)
		errx(1, "stay end");
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
		errx(1, "it ended with status %#x", (unsigned)status);
	munmap(board, sizeof(*board));
}

static void try_program(const char *hijack, int kills, int all_filtered)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned seed = 1;

	pid_t pid = fork();
	if (pid == 0)
		run(board, all_filtered);
	expect_progress(pid, board, 0);
	int done = 0;
	for (int i = 0; done < kills; i++) {
		if (i > 10 * kills)
			errx(1, "hijack seldom lives until it is killed");
		/* From the start of the program to some rounds of it. */
		done += kill_once(hijack, pid, 500 * 1000 + rand_r(&seed) % (6 * 1000 * 1000));
		expect_progress(pid, board, done);
	}
	expect_masks(pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(board, sizeof(*board));
}

int main(int argc, char **argv)
{
	int kills = argc > 3 ? (int)strtol(argv[3], NULL, 10) : KILLS;

	if (argc < 3)
		errx(2, "usage: %s HIJACK STAY [KILLS]", argv[0]);
	try_stay(argv[2], 0);
	try_stay(argv[2], 1);
	try_program(argv[1], kills, 0);
	try_program(argv[1], kills, 1);
	return 0;
}
