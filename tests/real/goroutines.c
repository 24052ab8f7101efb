/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A program built as Go's runtime builds one, as a subject (subject.h): many small stacks on the heap, run by a few
 * threads; a monitor thread that interrupts them by SIGURG every 10 ms with a handler on an alternative stack; threads
 * without work asleep in a futex; a poller in epoll that an eventfd wakes.
 *
 * What can go wrong: whoever writes below a stack pointer, or delivers a signal on the wrong stack, hits the next
 * object: each stack of 2 KiB has a guard pattern right below it. A lost sigaltstack, mask or thread pointer ends the
 * program; a lost futex wake or signal stands it still; floating point state is checked by sums.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include "subject.h"

#define WORKERS 4
#define GOROUTINES_EACH 500
#define STACK_BYTES 2048
#define GUARD_WORDS 32

struct goroutine {
	uint64_t guard[GUARD_WORDS]; /* right below the stack */
	_Alignas(16) char stack[STACK_BYTES];
	ucontext_t context;
	struct worker *worker;
	uint64_t steps;
	uint64_t hash;
	double sum;
};

struct worker {
	pthread_t thread;
	ucontext_t scheduler;
	struct goroutine *goroutines;
	_Atomic uint64_t rounds;
	_Atomic int parked; /* futex: 1 while there is no work */
	char signal_stack[65536];
};

struct runtime {
	struct worker workers[WORKERS];
	pthread_t poller;
	pthread_barrier_t prepared; /* of all workers: nobody is interrupted before it has its signal stack */
	int epoll;
	int event;
	_Atomic uint64_t polls;
	_Atomic uint64_t preemptions;
	_Atomic uint64_t wrong_stacks;
	_Atomic bool is_ending;
};

/* NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): signal handlers can't be given it */
static struct runtime runtime;

static void on_preempt(int signal, siginfo_t *info, void *context)
{
	stack_t now;

	(void)signal;
	(void)info;
	(void)context;
	sigaltstack(NULL, &now);
	if (!(now.ss_flags & SS_ONSTACK))
		runtime.wrong_stacks++;
	runtime.preemptions++;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	return x ^ (x >> 27);
}

/* One goroutine: steps for ever, giving way after each. Split so that makecontext's ints carry a pointer. */
static void goroutine_main(unsigned int high, unsigned int low)
{
	struct goroutine *self = (struct goroutine *)((uintptr_t)high << 32 | low);

	for (;;) {
		self->steps++;
		self->hash = mix(self->hash + self->steps);
		self->sum += 1.0 / (double)self->steps;
		swapcontext(&self->context, &self->worker->scheduler);
	}
}

static bool is_right(const struct goroutine *goroutine)
{
	uint64_t hash = 0;
	double sum = 0;

	for (uint64_t step = 1; step <= goroutine->steps; step++) {
		hash = mix(hash + step);
		sum += 1.0 / (double)step;
	}
	for (unsigned int i = 0; i < GUARD_WORDS; i++)
		if (goroutine->guard[i] != ((uintptr_t)goroutine ^ i))
			return false;
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): the very bits */
	return hash == goroutine->hash && memcmp(&sum, &goroutine->sum, sizeof(sum)) == 0;
}

static void make_goroutine(struct worker *worker, struct goroutine *goroutine)
{
	uintptr_t address = (uintptr_t)goroutine;

	for (unsigned int i = 0; i < GUARD_WORDS; i++)
		goroutine->guard[i] = address ^ i;
	goroutine->worker = worker;
	getcontext(&goroutine->context);
	goroutine->context.uc_stack = (stack_t){.ss_sp = goroutine->stack, .ss_size = STACK_BYTES};
	makecontext(&goroutine->context, (void (*)(void))goroutine_main, 2, (unsigned int)(address >> 32),
	            (unsigned int)address);
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;
	stack_t stack = {.ss_sp = worker->signal_stack, .ss_size = sizeof(worker->signal_stack)};

	sigaltstack(&stack, NULL);
	pthread_barrier_wait(&runtime.prepared);
	while (!runtime.is_ending) {
		for (unsigned int i = 0; i < GOROUTINES_EACH; i++)
			swapcontext(&worker->scheduler, &worker->goroutines[i].context);
		worker->rounds++;
		worker->parked = 1;
		syscall(SYS_futex, &worker->parked, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
	}
	return NULL;
}

static void *poller_main(void *argument)
{
	struct epoll_event event;
	uint64_t count;

	(void)argument;
	while (!runtime.is_ending) {
		if (epoll_pwait(runtime.epoll, &event, 1, -1, NULL) == 1 &&
		    read(runtime.event, &count, sizeof(count)) == sizeof(count))
			runtime.polls++;
	}
	return NULL;
}

/* Go's sysmon: preempts, wakes who is parked, pokes the poller. */
static void *monitor_main(void *argument)
{
	(void)argument;
	while (!runtime.is_ending) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		for (unsigned int i = 0; i < WORKERS; i++) {
			struct worker *worker = &runtime.workers[i];

			pthread_kill(worker->thread, SIGURG);
			worker->parked = 0;
			syscall(SYS_futex, &worker->parked, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		}
		eventfd_write(runtime.event, 1);
	}
	return NULL;
}

static void start_runtime(const struct subject *subject)
{
	struct sigaction preempt = {.sa_sigaction = on_preempt, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct epoll_event event = {.events = EPOLLIN};
	pthread_t monitor;

	sigaction(SIGURG, &preempt, NULL);
	pthread_barrier_init(&runtime.prepared, NULL, WORKERS + 1);
	runtime.epoll = epoll_create1(EPOLL_CLOEXEC);
	runtime.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_ctl(runtime.epoll, EPOLL_CTL_ADD, runtime.event, &event) != 0)
		subject_fail(subject, "epoll: errno %d", errno);
	for (unsigned int i = 0; i < WORKERS; i++) {
		struct worker *worker = &runtime.workers[i];

		worker->goroutines = calloc(GOROUTINES_EACH, sizeof(*worker->goroutines));
		for (unsigned int j = 0; j < GOROUTINES_EACH; j++)
			make_goroutine(worker, &worker->goroutines[j]);
		if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
			subject_fail(subject, "thread");
	}
	pthread_barrier_wait(&runtime.prepared);
	if (pthread_create(&runtime.poller, NULL, poller_main, NULL) != 0 ||
	    pthread_create(&monitor, NULL, monitor_main, NULL) != 0)
		subject_fail(subject, "thread");
}

static uint64_t progress(void)
{
	uint64_t least = runtime.polls < runtime.preemptions ? runtime.polls : runtime.preemptions;

	for (unsigned int i = 0; i < WORKERS; i++)
		if (runtime.workers[i].rounds < least)
			least = runtime.workers[i].rounds;
	return least;
}

/* Until workers, poller and preemption have all gone on for 20 rounds. */
static bool goes_on(void)
{
	uint64_t before = progress();

	for (unsigned int i = 0; i < 3000; i++) {
		if (progress() >= before + 20)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	return false;
}

/* It may have parked itself behind the monitor's last look. */
static void end_worker(struct worker *worker)
{
	while (pthread_tryjoin_np(worker->thread, NULL) != 0) {
		worker->parked = 0;
		syscall(SYS_futex, &worker->parked, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);

	start_runtime(&subject);
	if (!goes_on())
		subject_fail(&subject, "it never began");

	subject_ready(&subject);

	if (!goes_on())
		subject_fail(&subject, "stands still: %llu polls, %llu preemptions, %llu rounds",
		             (unsigned long long)runtime.polls, (unsigned long long)runtime.preemptions,
		             (unsigned long long)runtime.workers[0].rounds);
	runtime.is_ending = true;
	for (unsigned int i = 0; i < WORKERS; i++)
		end_worker(&runtime.workers[i]);
	for (unsigned int i = 0; i < WORKERS; i++)
		for (unsigned int j = 0; j < GOROUTINES_EACH; j++)
			if (!is_right(&runtime.workers[i].goroutines[j]))
				subject_fail(&subject, "goroutine %u of worker %u", j, i);
	if (runtime.wrong_stacks)
		subject_fail(&subject, "a signal came on a goroutine's stack");
	return subject_pass(&subject);
}
