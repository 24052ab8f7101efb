/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * sigaltstack(2) of each thread: sizes, SS_AUTODISARM, none; and one thread that is on its stack, in a handler, while it
 * is carried.
 */
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "crew.h"

enum { ON_STACK = 3, AUTODISARM = 2, NONE = 1 };
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static stack_t stacks[CREW];
static atomic_int handlers_on_stack;
static atomic_bool is_in_handler;
static sem_t may_leave;
static pthread_t on_stack;

static bool is_on(const stack_t *stack)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return here - (uintptr_t)stack->ss_sp < stack->ss_size;
}

static void handle(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	handlers_on_stack += is_on(&stacks[info->si_value.sival_int]);
}

/* Stays on the stack until the subject is told to look. */
static void handle_and_wait(int signal)
{
	stack_t now;

	(void)signal;
	is_in_handler = true;
	while (sem_wait(&may_leave) != 0)
		continue;
	sigaltstack(NULL, &now);
	handlers_on_stack += is_on(&stacks[ON_STACK]) && (now.ss_flags & SS_ONSTACK);
}

static void *stay_on_stack(void *subject)
{
	stack_t now;

	sigaltstack(&stacks[ON_STACK], NULL);
	raise(SIGUSR2);
	sigaltstack(NULL, &now);
	if (now.ss_sp != stacks[ON_STACK].ss_sp || now.ss_size != stacks[ON_STACK].ss_size || now.ss_flags != 0)
		subject_fail(subject, "stack of the thread that was on it: %p, %zu, %x", now.ss_sp, now.ss_size,
		             (unsigned)now.ss_flags);
	return NULL;
}

static void make_stacks(void)
{
	for (int i = 0; i < CREW; i++) {
		size_t size_bytes = 65536 + 4096 * (size_t)i + 16;
		void *pages =
			mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

		if (pages == MAP_FAILED)
			abort();
		stacks[i] = (stack_t){.ss_sp = pages, .ss_size = size_bytes};
	}
	stacks[NONE] = (stack_t){.ss_flags = SS_DISABLE};
	stacks[AUTODISARM].ss_flags = (int)SS_AUTODISARM;
}

static void set_up(const struct subject *subject, int number)
{
	if (number < ON_STACK && sigaltstack(&stacks[number], NULL) != 0)
		subject_fail(subject, "thread %d: errno %d", number, errno);
	if (number != ON_STACK)
		return;
	pthread_create(&on_stack, NULL, stay_on_stack, (void *)(uintptr_t)subject);
	while (!is_in_handler)
		sched_yield();
}

static void check(const struct subject *subject, int number)
{
	stack_t now;
	int before = handlers_on_stack;

	if (number == ON_STACK) {
		sem_post(&may_leave);
		pthread_join(on_stack, NULL);
		if (handlers_on_stack != before + 1)
			subject_fail(subject, "the thread that was on its stack isn't any more");
		return;
	}
	if (sigaltstack(NULL, &now) != 0 || now.ss_sp != stacks[number].ss_sp ||
	    now.ss_size != stacks[number].ss_size || now.ss_flags != stacks[number].ss_flags)
		subject_fail(subject, "thread %d: stack %p, %zu bytes, flags %x", number, now.ss_sp, now.ss_size,
		             (unsigned)now.ss_flags);
	pthread_sigqueue(pthread_self(), SIGRTMIN + 1, (union sigval){.sival_int = number});
	if (handlers_on_stack - before != (number != NONE))
		subject_fail(subject, "thread %d: the handler ran on the wrong stack", number);
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};
	const struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	const struct sigaction wait = {.sa_handler = handle_and_wait, .sa_flags = SA_ONSTACK};

	sem_init(&may_leave, 0, 0);
	sigaction(SIGRTMIN + 1, &action, NULL);
	sigaction(SIGUSR2, &wait, NULL);
	make_stacks();
	return crew_main(argc, argv, &job);
}
