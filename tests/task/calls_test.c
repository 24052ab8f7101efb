/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A signal that comes while a process is held ends the calls that a signal ends, and none of the others, when the process
 * goes on: as if it had never been stopped.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/calls.h"
#include "task/process.h"

enum kind { PAUSE, SLEEP, POLL, EPOLL, TIMED_EPOLL, SIGNAL_WAIT, READ, KINDS };

/* Shared with the child. */
struct page {
	atomic_int tid[KINDS];
	atomic_int result_errno[KINDS]; /* 0: not over; -1: no error */
	atomic_int handled[KINDS];
	int pipe[2];
};

struct waiter {
	struct page *page;
	enum kind kind;
};

/* NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): a signal handler can't be given it */
static _Thread_local struct waiter *current;

static void handle(int signal)
{
	(void)signal;
	current->page->handled[current->kind]++;
}

static long wait_in(const struct waiter *waiter)
{
	const struct timespec long_time = {.tv_sec = 1000};
	struct epoll_event event;
	sigset_t none;
	char byte;

	sigemptyset(&none);
	switch (waiter->kind) {
	case PAUSE:
		return pause();
	case SLEEP:
		return nanosleep(&long_time, NULL);
	case POLL:
		return poll(NULL, 0, 1000 * 1000);
	case EPOLL:
		return epoll_wait(epoll_create1(EPOLL_CLOEXEC), &event, 1, -1);
	case TIMED_EPOLL:
		return epoll_wait(epoll_create1(EPOLL_CLOEXEC), &event, 1, 1000 * 1000);
	case SIGNAL_WAIT:
		return sigtimedwait(&none, NULL, &long_time);
	case READ: /* is made again: SA_RESTART */
		return read(waiter->page->pipe[0], &byte, 1);
	case KINDS:
		break;
	}
	abort();
}

static void *run(void *context)
{
	struct waiter *waiter = context;

	current = waiter;
	waiter->page->tid[waiter->kind] = gettid();
	long result = wait_in(waiter);
	waiter->page->result_errno[waiter->kind] = result < 0 ? errno : -1;
	return NULL;
}

_Noreturn static void be_child(struct page *page)
{
	const struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	struct waiter waiters[KINDS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGUSR2, &action, NULL);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		pthread_t thread;

		waiters[kind] = (struct waiter){.page = page, .kind = kind};
		if (pthread_create(&thread, NULL, run, &waiters[kind]) != 0)
			abort();
	}
	for (;;)
		pause();
}

static bool is_asleep(pid_t pid, pid_t tid)
{
	auto_free char *name = NULL;
	auto_free char *text = NULL;

	if (tid == 0 || asprintf(&name, "task/%d/stat", tid) < 0 || procfs_read(pid, name, &text, NULL) < 0)
		return false;
	const char *end = strrchr(text, ')');
	return end && end[2] == 'S';
}

static void wait_until(bool (*is_true)(pid_t pid, const struct page *page), pid_t pid, const struct page *page)
{
	for (int tries = 0; !is_true(pid, page); tries++) {
		assert_int_not_equal(tries, 20000);
		usleep(1000);
	}
}

static bool all_asleep(pid_t pid, const struct page *page)
{
	for (enum kind kind = 0; kind < KINDS; kind++)
		if (!is_asleep(pid, page->tid[kind]))
			return false;
	return true;
}

static bool all_ended_but_read(pid_t pid, const struct page *page)
{
	(void)pid;
	for (enum kind kind = 0; kind < KINDS; kind++)
		if (page->handled[kind] == 0 || (kind != READ && page->result_errno[kind] == 0))
			return false;
	return true;
}

static bool read_ended(pid_t pid, const struct page *page)
{
	(void)pid;
	return page->result_errno[READ] != 0;
}

static void hold_and_signal(pid_t pid, const struct page *page, bool is_parked)
{
	auto_process struct process *process = NULL;
	auto_calls struct calls *calls = calls_new();

	assert_ok(process_seize(pid, &process));
	process->calls = calls;
	process_look(process);
	assert_ok(process_stop(process));
	if (is_parked)
		assert_ok(process_enter(process, 0, 0));
	for (enum kind kind = 0; kind < KINDS; kind++)
		assert_int_equal(syscall(SYS_tgkill, pid, page->tid[kind], SIGUSR2), 0);
	assert_ok(process_thaw(process));
}

static void check(bool is_parked)
{
	struct page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(pipe(page->pipe), 0);
	pid_t pid = fork();
	if (pid == 0)
		be_child(page);
	wait_until(all_asleep, pid, page);
	hold_and_signal(pid, page, is_parked);
	wait_until(all_ended_but_read, pid, page);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		assert_int_equal(page->handled[kind], 1);
		assert_int_equal(page->result_errno[kind], kind == READ ? 0 : EINTR);
	}
	assert_int_equal(write(page->pipe[1], "x", 1), 1);
	wait_until(read_ended, pid, page);
	assert_int_equal(page->result_errno[READ], -1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_parked(void **state)
{
	(void)state;
	check(true);
}

static void test_stopped(void **state)
{
	(void)state;
	check(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parked),
		cmocka_unit_test(test_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
