/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A thread that is dead but still listed under /proc, as any is for a moment: here for as long as another tracer doesn't
 * ask for its end.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/process.h"
#include "task/settle.h"
#include "util/procfs.h"

struct board {
	atomic_int tid;
	atomic_bool is_traced, may_end;
};

static void *live_until_told(void *context)
{
	struct board *board = context;

	atomic_store(&board->tid, gettid());
	while (!atomic_load(&board->may_end))
		usleep(1000);
	return NULL;
}

_Noreturn static void be_program(struct board *board)
{
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pthread_create(&thread, NULL, live_until_told, board) != 0)
		abort();
	for (;;)
		pause();
}

_Noreturn static void be_tracer(struct board *board)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_SEIZE, atomic_load(&board->tid), NULL, 0) == 0)
		atomic_store(&board->is_traced, true);
	for (;;)
		pause();
}

_Noreturn static void be_without_first_thread(struct board *board)
{
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pthread_create(&thread, NULL, live_until_told, board) != 0)
		abort();
	pthread_exit(NULL);
}

static struct board *make_board(void)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(board, MAP_FAILED);
	return board;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_thread_that_is_dead_is_no_error(void **state)
{
	struct board *board = make_board();
	auto_process struct process *process = NULL;

	(void)state;
	pid_t program = fork();
	if (program == 0)
		be_program(board);
	while (atomic_load(&board->tid) == 0)
		usleep(1000);
	pid_t tracer = fork();
	if (tracer == 0)
		be_tracer(board);
	while (!atomic_load(&board->is_traced))
		usleep(1000);
	atomic_store(&board->may_end, true);
	while (!procfs_is_dead(atomic_load(&board->tid)))
		usleep(1000);

	assert_ok(process_settle(program));
	assert_ok(process_seize(program, &process));
	assert_ok(process_stop(process));
	assert_int_equal(process->thread_count, 1);
	assert_ok(process_thaw(process));
	end(tracer);
	end(program);
	munmap(board, sizeof(*board));
}

static void test_a_program_without_its_first_thread_is_named(void **state)
{
	struct board *board = make_board();
	struct process *process = NULL;

	(void)state;
	pid_t program = fork();
	if (program == 0)
		be_without_first_thread(board);
	while (!procfs_is_dead(program))
		usleep(1000);
	assert_error(process_seize(program, &process), ENOTSUP, "its first thread has ended");
	end(program);
	munmap(board, sizeof(*board));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_thread_that_is_dead_is_no_error),
		cmocka_unit_test(test_a_program_without_its_first_thread_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
