/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * timer_create(2): timers with ids that have gaps, on several clocks, for a thread, silent ones, unset ones; one that
 * expires after the move, at the thread it is for.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>

#include "crew.h"

enum { FAR_SECONDS = 5000, THREAD = 2, EXPIRY = 44, SPARES = 5 };

/* The kernel's, for SIGEV_THREAD_ID and for the id that it gives. */
struct event {
	uint64_t value;
	int32_t signal, notify, tid;
	int32_t padding[11];
};

struct timer {
	int clock, notify, signal, tid;
	struct itimerspec time;
	int id;
};

static struct timer timers[] = {
	{CLOCK_MONOTONIC, SIGEV_SIGNAL, 40, 0, {{11, 22}, {FAR_SECONDS, 0}}, 0},
	{CLOCK_REALTIME, SIGEV_NONE, 0, 0, {{0, 0}, {FAR_SECONDS, 0}}, 0},
	{CLOCK_BOOTTIME, SIGEV_SIGNAL | SIGEV_THREAD_ID, 41, 0, {{33, 44}, {FAR_SECONDS, 0}}, 0},
	{CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 42, 0, {{0, 55000000}, {FAR_SECONDS, 0}}, 0},
	{CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL | SIGEV_THREAD_ID, 43, 0, {{0, 0}, {FAR_SECONDS, 0}}, 0},
	{CLOCK_MONOTONIC, SIGEV_SIGNAL, 40, 0, {{0, 0}, {0, 0}}, 0},
	{CLOCK_MONOTONIC, SIGEV_SIGNAL | SIGEV_THREAD_ID, EXPIRY, 0, {{0, 0}, {0, 0}}, 0},
};
enum { TIMERS = sizeof(timers) / sizeof(timers[0]), LAST = TIMERS - 1 };

static int create(const struct timer *timer, uint64_t value)
{
	const struct event event = {
		.value = value, .signal = timer->signal, .notify = timer->notify, .tid = timer->tid};
	int id = -1;

	return syscall(SYS_timer_create, timer->clock, &event, &id) == 0 ? id : -1;
}

static uint64_t value_of(int i)
{
	return 0x123456789a00 + (uint64_t)i;
}

/* One thread makes those that are for it, the main thread the others. */
static void set_up(const struct subject *subject, int number)
{
	for (int i = 0; i < TIMERS; i++) {
		struct timer *timer = &timers[i];
		int spares[SPARES];

		if (number != ((timer->notify & SIGEV_THREAD_ID) ? THREAD : 0))
			continue;
		timer->tid = gettid();
		/* Gaps between the ids. */
		for (int spare = 0; spare < SPARES; spare++)
			spares[spare] = create(timer, 0);
		timer->id = create(timer, value_of(i));
		for (int spare = 0; spare < SPARES; spare++)
			syscall(SYS_timer_delete, spares[spare]);
		if (timer->id < 0 || syscall(SYS_timer_settime, timer->id, 0, &timer->time, NULL) != 0)
			subject_fail(subject, "timer %d: errno %d", i, errno);
	}
}

static void check_time(const struct subject *subject, int i)
{
	const struct itimerspec *was = &timers[i].time;
	struct itimerspec now;

	if (syscall(SYS_timer_gettime, timers[i].id, &now) != 0)
		subject_fail(subject, "timer %d has another id than %d", i, timers[i].id);
	bool is_set = was->it_value.tv_sec != 0;
	time_t left = now.it_value.tv_sec;
	if ((is_set && (left > FAR_SECONDS || left < FAR_SECONDS - 600)) || (!is_set && left != 0) ||
	    now.it_interval.tv_sec != was->it_interval.tv_sec || now.it_interval.tv_nsec != was->it_interval.tv_nsec)
		subject_fail(subject, "timer %d: %jd s left, every %jd s %ld ns", i, (intmax_t)left,
		             (intmax_t)now.it_interval.tv_sec, now.it_interval.tv_nsec);
}

/* Set off now, each comes with its own signal and value. */
static void check_signal(const struct subject *subject, int i)
{
	const struct itimerspec soon = {.it_value = {0, 1}};
	const struct timespec patience = {.tv_sec = 20};
	siginfo_t info;
	sigset_t set;

	if (!(timers[i].notify & SIGEV_THREAD_ID) && timers[i].notify != SIGEV_SIGNAL)
		return;
	sigemptyset(&set);
	sigaddset(&set, timers[i].signal);
	syscall(SYS_timer_settime, timers[i].id, 0, &soon, NULL);
	if (timers[i].clock == CLOCK_PROCESS_CPUTIME_ID || timers[i].clock == CLOCK_THREAD_CPUTIME_ID)
		for (volatile long spin = 0; spin < 30 * 1000 * 1000; spin++)
			continue; /* it counts time on the processor */
	if (sigtimedwait(&set, &info, &patience) != timers[i].signal ||
	    info.si_value.sival_ptr != (void *)(uintptr_t)value_of(i) || info.si_code != SI_TIMER ||
	    info.si_timerid != timers[i].id)
		subject_fail(subject, "timer %d: errno %d, value %p, code %d, id %d", i, errno, info.si_value.sival_ptr,
		             info.si_code, info.si_timerid);
}

static void check(const struct subject *subject, int number)
{
	for (int i = 0; i < TIMERS; i++) {
		if (number != ((timers[i].notify & SIGEV_THREAD_ID) ? THREAD : 0))
			continue;
		check_time(subject, i);
		check_signal(subject, i);
	}
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};
	sigset_t set;

	sigemptyset(&set);
	for (int signal = 40; signal <= EXPIRY; signal++)
		sigaddset(&set, signal);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return crew_main(argc, argv, &job);
}
