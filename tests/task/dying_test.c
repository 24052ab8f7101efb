/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A process that ends while it is traced: that is told, and nobody waits for a stop of it that never comes. The end of
 * its first thread comes last, and only after the others, which the tracer has to wait for, have been waited for.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/process.h"
#include "util/procfs.h"

enum { THREADS = 4, HANGS_S = 60 };

/* Shared with the child. */
struct page {
	atomic_int begun;
	atomic_bool first_may_end;
};

__attribute__((noreturn)) static void *run(void *context)
{
	struct page *page = context;

	page->begun++;
	for (;;)
		pause();
}

__attribute__((noreturn)) static void be_child(struct page *page)
{
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, run, page) != 0)
			abort();
	while (!page->first_may_end)
		usleep(100);
	pthread_exit(NULL);
}

static pid_t start(struct page **ret_page)
{
	struct page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	pid_t pid = fork();
	if (pid == 0)
		be_child(page);
	while (page->begun < THREADS)
		usleep(100);
	*ret_page = page;
	alarm(HANGS_S);
	return pid;
}

static void wait_until_dead(pid_t pid)
{
	while (!procfs_is_dead(pid))
		usleep(100);
}

static void end(pid_t pid, struct page *page, struct process *process)
{
	process_free(process);
	kill(pid, SIGKILL);
	/* The first thread's end comes when those of the others have been taken. */
	while (waitpid(-1, NULL, __WALL) > 0)
		continue;
	munmap(page, sizeof(*page));
	alarm(0);
}

static void test_killed(void **state)
{
	struct process *process;
	struct page *page;
	pid_t pid = start(&page);

	(void)state;
	assert_ok(process_seize(pid, &process));
	kill(pid, SIGKILL);
	wait_until_dead(pid);
	auto_error struct error *error = process_stop(process);
	assert_int_equal(error_errnum(error), ESRCH);
	end(pid, page, process);
}

static void test_killed_while_stopped(void **state)
{
	struct process *process;
	struct page *page;
	pid_t pid = start(&page);

	(void)state;
	assert_ok(process_seize(pid, &process));
	assert_ok(process_stop(process));
	kill(pid, SIGKILL);
	wait_until_dead(pid);
	auto_error struct error *error = process_enter(process, 0, 0);
	assert_non_null(error);
	end(pid, page, process);
}

static void test_killed_while_parked(void **state)
{
	struct process *process;
	struct page *page;
	pid_t pid = start(&page);

	(void)state;
	assert_ok(process_seize(pid, &process));
	assert_ok(process_stop(process));
	assert_ok(process_enter(process, 0, 0));
	kill(pid, SIGKILL);
	wait_until_dead(pid);
	assert_ok(process_thaw(process));
	end(pid, page, process);
}

static void test_first_thread_ends(void **state)
{
	struct process *process;
	struct page *page;
	pid_t pid = start(&page);

	(void)state;
	assert_ok(process_seize(pid, &process));
	page->first_may_end = true;
	wait_until_dead(pid);
	auto_error struct error *error = process_stop(process);
	assert_int_equal(error_errnum(error), ENOTSUP);
	end(pid, page, process);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_killed_while_stopped),
		cmocka_unit_test(test_killed_while_parked),
		cmocka_unit_test(test_first_thread_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
