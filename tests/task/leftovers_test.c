/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The pages that a killed holder has left in a process go away as soon as nobody is in the way, also if it has held several
 * processes and let some of them go.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/unit.h"
#include "task/leftovers.h"
#include "task/process.h"
#include "task/remote.h"
#include "task/stub_pages.h"

enum { VICTIMS = 3 };

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

/* Its threads wait in the stub. */
static struct process *park(pid_t pid)
{
	struct process *process = NULL;

	if (process_seize(pid, &process) || process_stop(process) || process_enter(process, 0, 0))
		_exit(1);
	for (size_t i = 0; i < process->thread_count; i++) {
		auto_batch struct batch *batch = process_batch(process, i);

		batch_call(batch, getpid, val(0));
		if (process_run(process, batch))
			_exit(1);
	}
	return process;
}

/* Parks them and is killed, when it has let one go; none: count. */
static void be_killed_holding(const pid_t *pids, size_t count, size_t let_go)
{
	pid_t holder = fork();

	if (holder == 0) {
		struct process *processes[VICTIMS];

		for (size_t i = 0; i < count; i++)
			processes[i] = park(pids[i]);
		if (let_go < count && process_thaw(processes[let_go]))
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

/* In pause(2), where it was. */
static void wait_until_asleep(pid_t pid)
{
	for (int tries = 0; tries < 20000; tries++) {
		auto_free char *call = NULL;

		assert_true(procfs_read(pid, "syscall", &call, NULL) >= 0);
		if (strtol(call, NULL, 10) == SYS_pause)
			return;
		usleep(1000);
	}
	fail();
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
	be_killed_holding(&pid, 1, 1);
	assert_true(has_leftovers(pid));
	pid_t holder = hold_for_a_while(pid);
	assert_ok(leftovers_clear(pid));
	assert_false(has_leftovers(pid));
	assert_int_equal(waitpid(holder, NULL, 0), holder);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void check_several(size_t let_go)
{
	pid_t pids[VICTIMS];

	for (size_t i = 0; i < VICTIMS; i++)
		pids[i] = start_victim();
	be_killed_holding(pids, VICTIMS, let_go);
	for (size_t i = 0; i < VICTIMS; i++) {
		assert_ok(leftovers_clear(pids[i]));
		assert_false(has_leftovers(pids[i]));
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
}

static void test_all_that_a_killed_holder_has_held_go_on(void **state)
{
	(void)state;
	for (size_t let_go = 0; let_go <= VICTIMS; let_go++)
		check_several(let_go);
}

/* Has a call put into the first thread that maps a page for the stub, and is killed before it is made. */
static struct error *begin_to_map(struct process *process)
{
	const struct thread *thread = &process->threads[0];
	const uint64_t arguments[6] = {
		stub_pages_address(0) + STUB_DATA_OFFSET,         4096,       PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, UINT64_MAX,
	};
	struct arch_registers registers = thread->registers;
	uint8_t code[ARCH_TRAMPOLINE_BYTES];

	TRY(remote_slot_find(process));
	arch_registers_rewind(&registers);
	arch_trampoline(code, &registers, 0);
	if (pwrite(process->mem_fd, code, sizeof(code), (off_t)process->slot.address) != sizeof(code))
		return error_new(errno, "pwrite");
	arch_registers_syscall(&registers, process->slot.address, SYS_mmap, arguments);
	int r = arch_registers_set(thread->tid, &registers);
	return r < 0 ? error_new(-r, "registers") : NULL;
}

/* A thread that gets no processor is one that is stopped, as far as it matters here. */
static void be_killed_mapping(pid_t pid)
{
	pid_t holder = fork();

	if (holder == 0) {
		struct process *process = NULL;

		if (process_seize(pid, &process) || process_stop(process) || begin_to_map(process) ||
		    kill(pid, SIGSTOP) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_true(WIFSIGNALED(status));
}

static void test_what_is_mapped_late_is_cleared_too(void **state)
{
	pid_t pid = start_victim();
	int status;

	(void)state;
	be_killed_mapping(pid);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_false(has_leftovers(pid));
	assert_ok(leftovers_clear(pid));
	kill(pid, SIGCONT);
	wait_until_asleep(pid);
	assert_false(has_leftovers(pid));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leftovers_are_cleared_when_the_last_tracer_lets_go),
		cmocka_unit_test(test_all_that_a_killed_holder_has_held_go_on),
		cmocka_unit_test(test_what_is_mapped_late_is_cleared_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
