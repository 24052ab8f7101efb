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

struct dying {
	struct page *page;
	pid_t pid;
	struct process *process;
};

static struct dying start_and_seize(void)
{
	struct dying dying = {
		.page = mmap(NULL, sizeof(*dying.page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	assert_true(dying.page != MAP_FAILED);
	dying.pid = fork();
	if (dying.pid == 0)
		be_child(dying.page);
	while (dying.page->begun < THREADS)
		usleep(100);
	alarm(HANGS_S);
	assert_ok(process_seize(dying.pid, &dying.process));
	return dying;
}

static void wait_until_dead(pid_t pid)
{
	while (!procfs_is_dead(pid))
		usleep(100);
}

static void kill_it(const struct dying *dying)
{
	kill(dying->pid, SIGKILL);
	wait_until_dead(dying->pid);
}

static void end(struct dying *dying)
{
	process_free(dying->process);
	kill(dying->pid, SIGKILL);
	/* The first thread's end comes when those of the others have been taken. */
	while (waitpid(-1, NULL, __WALL) > 0)
		continue;
	munmap(dying->page, sizeof(*dying->page));
	alarm(0);
}

static void test_killed(void **state)
{
	struct dying dying = start_and_seize();

	(void)state;
	kill_it(&dying);
	auto_error struct error *error = process_stop(dying.process);
	assert_int_equal(error_errnum(error), ESRCH);
	end(&dying);
}

static void test_killed_while_stopped(void **state)
{
	struct dying dying = start_and_seize();

	(void)state;
	assert_ok(process_stop(dying.process));
	kill_it(&dying);
	auto_error struct error *error = process_enter(dying.process, 0, 0);
	assert_non_null(error);
	end(&dying);
}

static void test_killed_while_parked(void **state)
{
	struct dying dying = start_and_seize();

	(void)state;
	assert_ok(process_stop(dying.process));
	assert_ok(process_enter(dying.process, 0, 0));
	kill_it(&dying);
	assert_ok(process_thaw(dying.process));
	end(&dying);
}

static void test_first_thread_ends(void **state)
{
	struct dying dying = start_and_seize();

	(void)state;
	dying.page->first_may_end = true;
	wait_until_dead(dying.pid);
	auto_error struct error *error = process_stop(dying.process);
	assert_int_equal(error_errnum(error), ENOTSUP);
	end(&dying);
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
