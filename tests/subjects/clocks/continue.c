/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME go on: a thread that looks at them all the time never sees them go back, nor jump
 * ahead by more than a move may take. What waits for a point in time of theirs wakes at that point: a sleep, a futex, a
 * timer behind a descriptor, a timer that sends a signal.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include "subject.h"

enum { WAIT_SECONDS = 7, JUMP_SECONDS = 60 };

static const int64_t late_max_ns = INT64_C(4000000000);
static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
enum { CLOCKS = sizeof(clocks) / sizeof(clocks[0]) };

struct watch {
	pthread_t thread;
	clockid_t clock;
	atomic_bool is_over;
	int64_t back_ns, ahead_ns; /* the farthest that it went between two looks */
};

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *look(void *context)
{
	struct watch *watch = context;
	const struct timespec moment = {.tv_nsec = 500 * 1000};
	int64_t last_ns = now_ns(watch->clock);

	while (!watch->is_over) {
		nanosleep(&moment, NULL);
		int64_t passed_ns = now_ns(watch->clock) - last_ns;

		last_ns += passed_ns;
		if (-passed_ns > watch->back_ns)
			watch->back_ns = -passed_ns;
		if (passed_ns > watch->ahead_ns)
			watch->ahead_ns = passed_ns;
	}
	return NULL;
}

/* ---- Points in time ---- */

struct point {
	pthread_t thread;
	const char *name;
	bool (*wait)(const struct timespec *until, clockid_t clock);
	clockid_t clock;
	struct timespec until;
	bool is_right;
	int64_t late_ns;
};

static bool sleep_until(const struct timespec *until, clockid_t clock)
{
	return clock_nanosleep(clock, TIMER_ABSTIME, until, NULL) == 0;
}

static bool futex_until(const struct timespec *until, clockid_t clock)
{
	uint32_t word = 0;

	(void)clock;
	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, until, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
	       errno == ETIMEDOUT;
}

static bool descriptor_until(const struct timespec *until, clockid_t clock)
{
	const struct itimerspec time = {.it_value = *until};
	int fd = timerfd_create(clock, TFD_CLOEXEC);
	uint64_t ticks;

	return timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL) == 0 && read(fd, &ticks, sizeof(ticks)) > 0;
}

static bool signal_until(const struct timespec *until, clockid_t clock)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
	const struct itimerspec time = {.it_value = *until};
	sigset_t set;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return timer_create(clock, &event, &timer) == 0 && timer_settime(timer, TIMER_ABSTIME, &time, NULL) == 0 &&
	       sigwaitinfo(&set, NULL) == SIGUSR2;
}

static void *wait_for_point(void *context)
{
	struct point *point = context;

	point->is_right = point->wait(&point->until, point->clock);
	point->late_ns = now_ns(point->clock) - ((int64_t)point->until.tv_sec * 1000000000 + point->until.tv_nsec);
	return NULL;
}

static void check_point(const struct subject *subject, struct point *point)
{
	pthread_join(point->thread, NULL);
	if (!point->is_right)
		subject_fail(subject, "%s: it did not wait to the end", point->name);
	if (point->late_ns < 0 || point->late_ns > late_max_ns)
		subject_fail(subject, "%s: %" PRId64 " us late", point->name, point->late_ns / 1000);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct watch watches[CLOCKS] = {0};
	struct point points[] = {
		{.name = "clock_nanosleep", .wait = sleep_until, .clock = CLOCK_MONOTONIC},
		{.name = "clock_nanosleep of boot time", .wait = sleep_until, .clock = CLOCK_BOOTTIME},
		{.name = "futex", .wait = futex_until, .clock = CLOCK_MONOTONIC},
		{.name = "timerfd", .wait = descriptor_until, .clock = CLOCK_MONOTONIC},
		{.name = "timerfd of boot time", .wait = descriptor_until, .clock = CLOCK_BOOTTIME},
		{.name = "POSIX timer", .wait = signal_until, .clock = CLOCK_MONOTONIC},
	};
	enum { POINTS = sizeof(points) / sizeof(points[0]) };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < CLOCKS; i++) {
		watches[i].clock = clocks[i];
		if (pthread_create(&watches[i].thread, NULL, look, &watches[i]) != 0)
			subject_fail(&subject, "pthread_create");
	}
	for (unsigned i = 0; i < POINTS; i++) {
		clock_gettime(points[i].clock, &points[i].until);
		points[i].until.tv_sec += WAIT_SECONDS;
		if (pthread_create(&points[i].thread, NULL, wait_for_point, &points[i]) != 0)
			subject_fail(&subject, "pthread_create");
	}
	usleep(50 * 1000);

	subject_ready(&subject);

	for (unsigned i = 0; i < POINTS; i++)
		check_point(&subject, &points[i]);
	for (unsigned i = 0; i < CLOCKS; i++) {
		watches[i].is_over = true;
		pthread_join(watches[i].thread, NULL);
		if (watches[i].back_ns > 0 || watches[i].ahead_ns > JUMP_SECONDS * INT64_C(1000000000))
			subject_fail(&subject, "clock %d went back by %" PRId64 " us, ahead by %" PRId64 " us",
			             watches[i].clock, watches[i].back_ns / 1000, watches[i].ahead_ns / 1000);
	}
	return subject_pass(&subject);
}
