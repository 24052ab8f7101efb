/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Threads that ask for the time without a pause are in the vDSO most of the time, but hardly ever when they have been
 * stopped: only if they were found there again and again. Who has been stopped by a signal stays where it is.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/process.h"

enum { THREADS = 2, TIMES = 100 };

/* NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): so that the call isn't left out */
static volatile time_t seconds;

/* Shared with the child: counts what it does. */
static void *ask_always(void *count)
{
	for (;;) {
		seconds = time(NULL);
		++*(volatile unsigned long *)count;
	}
	return NULL;
}

_Noreturn static void be_child(volatile unsigned long *count)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 1; i < THREADS; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, ask_always, (void *)(uintptr_t)count) != 0)
			abort();
	}
	ask_always((void *)(uintptr_t)count);
	abort();
}

static pid_t start_child(volatile unsigned long **ret_count)
{
	*ret_count = mmap(NULL, sizeof(**ret_count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(*ret_count, MAP_FAILED);
	pid_t pid = fork();
	if (pid == 0)
		be_child(*ret_count);
	return pid;
}

static void test_threads_leave_the_vdso(void **state)
{
	int stopped = 0;
	int inside = 0;
	volatile unsigned long *count;

	(void)state;
	pid_t pid = start_child(&count);
	for (int i = 0; i < TIMES; i++) {
		auto_process struct process *process = NULL;

		assert_ok(process_seize(pid, &process));
		assert_int_not_equal(process->vdso.end, 0);
		assert_ok(process_stop(process));
		for (size_t n = 0; n < process->thread_count; n++) {
			uint64_t at = arch_instruction_pointer(&process->threads[n].registers);

			stopped++;
			inside += at >= process->vdso.start && at < process->vdso.end;
		}
		assert_ok(process_thaw(process));
	}
	assert_in_range(stopped, TIMES, INT_MAX);
	assert_in_range(inside, 0, stopped / 2); /* on a busy machine; without that code 9 of 10 */
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_stopped_program_makes_no_step(void **state)
{
	volatile unsigned long *count;
	int status;

	(void)state;
	pid_t pid = start_child(&count);
	for (int i = 0; i < TIMES * 3; i++) {
		auto_process struct process *process = NULL;

		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(WIFSTOPPED(status));
		unsigned long before = *count;
		assert_ok(process_seize(pid, &process));
		assert_ok(process_stop(process));
		assert_ok(process_thaw(process));
		assert_int_equal(*count, before);
		assert_int_equal(kill(pid, SIGCONT), 0);
		while (*count == before)
			usleep(100);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_leave_the_vdso),
		cmocka_unit_test(test_a_stopped_program_makes_no_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
