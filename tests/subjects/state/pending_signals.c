/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Signals that wait because they are blocked: in the order of their queues, with their siginfo, for each thread and for
 * the process.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "crew.h"

enum { REPEATS = 70, PROCESS_SIGNAL = 50 }; /* more than one batch, or one read of the queue, holds */

static int value_of(int number, int i)
{
	return 0x10000 * (number + 1) + i;
}

static int signal_of(int number)
{
	return 40 + number;
}

static void set_up(const struct subject *subject, int number)
{
	for (int i = 0; i < REPEATS; i++)
		if (pthread_sigqueue(pthread_self(), signal_of(number),
		                     (union sigval){.sival_int = value_of(number, i)}) != 0)
			subject_fail(subject, "thread %d: signal %d", number, i);
	/* Of a standard signal only one waits; it comes by tgkill(2). */
	pthread_kill(pthread_self(), SIGUSR2);
	pthread_kill(pthread_self(), SIGUSR2);
	if (number != 0)
		return;
	for (int i = 0; i < REPEATS; i++)
		if (sigqueue(getpid(), PROCESS_SIGNAL, (union sigval){.sival_int = value_of(CREW, i)}) != 0)
			subject_fail(subject, "signal %d", i);
	kill(getpid(), SIGURG);
	/* As the kernel would send it, with an address. */
	siginfo_t fault = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR};
	fault.si_addr = (void *)(uintptr_t)0x123456789000;
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGSEGV, &fault) != 0)
		subject_fail(subject, "SIGSEGV: errno %d", errno);
}

/* Takes one that waits. Not by libc, which shows SI_TKILL as SI_USER. */
static siginfo_t take(const struct subject *subject, int signal)
{
	const struct timespec now = {0};
	siginfo_t info = {0};
	const uint64_t set = UINT64_C(1) << (signal - 1);

	if (syscall(SYS_rt_sigtimedwait, &set, &info, &now, sizeof(set)) != signal)
		subject_fail(subject, "signal %d doesn't wait: errno %d", signal, errno);
	return info;
}

static void check_queue(const struct subject *subject, int signal, int number, int code)
{
	for (int i = 0; i < REPEATS; i++) {
		siginfo_t info = take(subject, signal);

		if (info.si_value.sival_int != value_of(number, i) || info.si_code != code || info.si_pid != getpid() ||
		    info.si_uid != getuid())
			subject_fail(subject, "signal %d, number %d: value %#x, code %d, from %d", signal, i,
			             (unsigned)info.si_value.sival_int, info.si_code, info.si_pid);
	}
}

static void check_nothing(const struct subject *subject)
{
	sigset_t left;

	sigpending(&left);
	for (int signal = 1; signal <= 64; signal++)
		if (signal != SIGUSR1 && sigismember(&left, signal) == 1)
			subject_fail(subject, "signal %d waits once more", signal);
}

static void check(const struct subject *subject, int number)
{
	check_queue(subject, signal_of(number), number, SI_QUEUE);
	siginfo_t info = take(subject, SIGUSR2);
	if (info.si_code != SI_TKILL || info.si_pid != getpid())
		subject_fail(subject, "SIGUSR2: code %d, from %d", info.si_code, info.si_pid);
	if (number != 0)
		return;
	check_queue(subject, PROCESS_SIGNAL, CREW, SI_QUEUE);
	if (take(subject, SIGURG).si_code != SI_USER)
		subject_fail(subject, "SIGURG doesn't come from kill(2)");
	info = take(subject, SIGSEGV);
	if (info.si_code != SEGV_ACCERR || info.si_addr != (void *)(uintptr_t)0x123456789000)
		subject_fail(subject, "SIGSEGV: code %d, at %p", info.si_code, info.si_addr);
	check_nothing(subject);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	return crew_main(argc, argv, &job);
}
