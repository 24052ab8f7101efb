/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The pages that a killed holder has left in a process go away as soon as nobody is in the way. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/leftovers.h"
#include "task/process.h"

_Noreturn static void *wait_for_ever(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

static pid_t start_victim(void)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t threads[3];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < 3; i++)
			if (pthread_create(&threads[i], NULL, wait_for_ever, NULL) != 0)
				abort();
		if (write(ready[1], "", 1) != 1)
			abort();
		wait_for_ever(NULL);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

/* Stops and enters it, and is killed. */
static void be_killed_holding(pid_t pid)
{
	pid_t holder = fork();

	if (holder == 0) {
		struct process *process = NULL;

		if (process_seize(pid, &process) || process_stop(process) || process_enter(process, 0, 0))
			_exit(1);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_true(WIFSIGNALED(status));
}

static bool has_leftovers(pid_t pid)
{
	auto_free char *maps = NULL;

	assert_true(procfs_read(pid, "maps", &maps, NULL) >= 0);
	return strstr(maps, "/dev/zero (deleted)");
}

/* As a godwit does that is dying: for a while. */
static pid_t hold_for_a_while(pid_t pid)
{
	enum { WHILE_US = 200 * 1000 };
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t holder = fork();
	if (holder == 0) {
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		usleep(WHILE_US);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return holder;
}

static void test_leftovers_are_cleared_when_the_last_tracer_lets_go(void **state)
{
	pid_t pid = start_victim();

	(void)state;
	be_killed_holding(pid);
	assert_true(has_leftovers(pid));
	pid_t holder = hold_for_a_while(pid);
	assert_ok(leftovers_clear(pid));
	assert_false(has_leftovers(pid));
	assert_int_equal(waitpid(holder, NULL, 0), holder);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leftovers_are_cleared_when_the_last_tracer_lets_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
