/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What rt_sigaction(2) has set: handlers of both kinds with all flags, masks, ignored signals, and the default.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "subject.h"

enum { SIGNALS = 64, RESTORER = 0x4000000 };

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static volatile sig_atomic_t seen_signal, seen_value;

static void handle(int signal)
{
	seen_signal = signal;
}

static void handle_info(int signal, siginfo_t *info, void *context)
{
	(void)context;
	seen_signal = signal;
	seen_value = info->si_value.sival_int;
}

static struct kernel_sigaction get(uint64_t signal)
{
	struct kernel_sigaction action = {0};

	syscall(SYS_rt_sigaction, signal, NULL, &action, sizeof(uint64_t));
	return action;
}

/* Different for each signal; the restorer is libc's, without which no handler could return. */
static struct kernel_sigaction wanted(uint64_t signal, uint64_t restorer)
{
	static const uint64_t flags[] = {SA_RESTART, SA_NODEFER, SA_NOCLDSTOP | SA_NOCLDWAIT,
	                                 SA_ONSTACK, 0,          SA_RESETHAND};
	struct kernel_sigaction action = {
		.handler = (uint64_t)(uintptr_t)handle,
		.flags = flags[signal % 6] | RESTORER,
		.restorer = restorer,
		.mask = (UINT64_C(0x5a5aa5a5c3c33c3c) << (signal % 7)) & ~UINT64_C(0x40100),
	};

	if (signal % 5 == 0)
		return (struct kernel_sigaction){.handler = (uint64_t)(uintptr_t)SIG_IGN};
	if (signal % 5 == 1 || signal == SIGUSR1)
		return (struct kernel_sigaction){0};
	if (signal % 5 == 2) {
		action.handler = (uint64_t)(uintptr_t)handle_info;
		action.flags |= SA_SIGINFO;
	}
	return action;
}

static int is_settable(uint64_t signal)
{
	return signal != SIGKILL && signal != SIGSTOP;
}

static void check_all(const struct subject *subject, uint64_t restorer)
{
	for (uint64_t signal = 1; signal <= SIGNALS; signal++) {
		struct kernel_sigaction now = get(signal);
		struct kernel_sigaction was = wanted(signal, restorer);

		if (is_settable(signal) && (now.handler != was.handler || now.flags != was.flags ||
		                            now.restorer != was.restorer || now.mask != was.mask))
			subject_fail(subject, "signal %d: handler %#jx, flags %#jx, restorer %#jx, mask %#jx",
			             (int)signal, (uintmax_t)now.handler, (uintmax_t)now.flags, (uintmax_t)now.restorer,
			             (uintmax_t)now.mask);
	}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);

	signal(SIGUSR2, handle);
	const uint64_t restorer = get(SIGUSR2).restorer;
	for (uint64_t signal = 1; signal <= SIGNALS; signal++) {
		struct kernel_sigaction action = wanted(signal, restorer);

		if (is_settable(signal) && syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof(uint64_t)) != 0)
			subject_fail(&subject, "signal %d can't be set", (int)signal);
	}
	check_all(&subject, restorer);

	subject_ready(&subject);

	check_all(&subject, restorer);
	raise(33 + 1); /* 34 % 5 == 4 */
	if (seen_signal != 34)
		subject_fail(&subject, "signal 34 went to no handler, or another one");
	sigqueue(getpid(), 37, (union sigval){.sival_int = 0x1357});
	if (seen_signal != 37 || seen_value != 0x1357)
		subject_fail(&subject, "signal 37: %d with %#x", (int)seen_signal, (unsigned)seen_value);
	raise(35); /* ignored */
	return subject_pass(&subject);
}
