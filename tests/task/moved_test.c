/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A thread that is moved to another processor while it falls asleep: the kernel forgets when that was (src/task/calls.c),
 * and its call with a time-out must not end too early for that.
 *
 * Linux 6.12 and newer leave a thread that has used more than its share in the queue of its processor for a while. So a
 * sleeper that has computed beside a busy process is told to use the other processor as soon as it waits, over and over,
 * until it is seen to have been moved in that while.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/calls.h"
#include "task/process.h"
#include "util/clock.h"

enum {
	TIMEOUT_MS = 1000,
	NS_PER_MS = 1000 * 1000,
	SHARE_NS = 6 * NS_PER_MS, /* more than a turn */
	TRIES = 100,
	CHECKS = 1,
};

/* Shared with the sleeper. */
struct page {
	atomic_bool waits;
	atomic_uint_least64_t began_ns, ended_ns; /* its wait; 0: it hasn't ended by its time-out */
	int wake_fd;
	int cpus[2];
};

static void use_only(pid_t pid, int cpu)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	assert_int_equal(sched_setaffinity(pid, sizeof(only), &only), 0);
}

/* The first two that we may use; false: there is only one. */
static bool find_processors(int cpus[2])
{
	cpu_set_t allowed;
	int count = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpus[count++] = cpu;
	return count == 2;
}

_Noreturn static void be_busy(int cpu)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	use_only(0, cpu);
	for (;;)
		;
}

_Noreturn static void be_sleeper(struct page *page)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, page->wake_fd, &event) < 0)
		abort();
	for (;;) {
		uint64_t value;

		use_only(0, page->cpus[0]);
		for (uint64_t start_ns = clock_now_ns(); clock_now_ns() - start_ns < SHARE_NS;)
			;
		page->ended_ns = 0;
		page->began_ns = clock_now_ns();
		page->waits = true;
		int count = epoll_wait(epoll, &event, 1, TIMEOUT_MS);
		if (count == 0)
			page->ended_ns = clock_now_ns();
		page->waits = false;
		if (read(page->wake_fd, &value, sizeof(value)) != sizeof(value))
			abort();
	}
}

static void wake(struct page *page)
{
	const uint64_t one = 1;

	assert_int_equal(write(page->wake_fd, &one, sizeof(one)), sizeof(one));
	while (page->waits)
		usleep(1000);
}

/* Does it sleep, without the kernel knowing since when? */
static bool has_been_moved(pid_t pid)
{
	auto_free char *sched = NULL;
	auto_free char *call = NULL;

	assert_int_equal(procfs_read(pid, "sched", &sched, NULL), 0);
	assert_int_equal(procfs_read(pid, "syscall", &call, NULL), 0);
	const char *start = strstr(sched, "se.exec_start");
	return strncmp(call, "running", strlen("running")) != 0 && start && strtod(strchr(start, ':') + 1, NULL) == 0;
}

/* False: this kernel doesn't do such things, or not today. */
static bool move_while_it_falls_asleep(pid_t pid, struct page *page)
{
	for (int i = 0; i < TRIES; i++) {
		while (!page->waits)
			;
		use_only(pid, page->cpus[1]);
		usleep(1000);
		if (has_been_moved(pid))
			return true;
		wake(page);
	}
	return false;
}

static void stop_and_go_on(pid_t pid)
{
	auto_process struct process *process = NULL;
	auto_calls struct calls *calls = calls_new();

	assert_ok(process_seize(pid, &process));
	process->calls = calls;
	process_look(process);
	assert_ok(process_stop(process));
	assert_ok(process_thaw(process));
}

static void check(pid_t pid, pid_t busy, struct page *page)
{
	kill(busy, SIGCONT);
	if (!move_while_it_falls_asleep(pid, page))
		skip();
	kill(busy, SIGSTOP);
	stop_and_go_on(pid);
	while (page->waits)
		usleep(1000);
	assert_true(page->ended_ns - page->began_ns >= (uint64_t)TIMEOUT_MS * NS_PER_MS);
	wake(page);
}

static void test_a_thread_that_is_moved_as_it_falls_asleep_waits_out_its_time(void **state)
{
	struct page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	if (!find_processors(page->cpus))
		skip();
	page->wake_fd = eventfd(0, EFD_CLOEXEC);
	assert_true(page->wake_fd >= 0);
	pid_t busy = fork();
	if (busy == 0)
		be_busy(page->cpus[0]);
	pid_t sleeper = fork();
	if (sleeper == 0)
		be_sleeper(page);
	for (int i = 0; i < CHECKS; i++)
		check(sleeper, busy, page);
	kill(busy, SIGKILL);
	kill(sleeper, SIGKILL);
	assert_int_equal(waitpid(busy, NULL, 0), busy);
	assert_int_equal(waitpid(sleeper, NULL, 0), sleeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_thread_that_is_moved_as_it_falls_asleep_waits_out_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
