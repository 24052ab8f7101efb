/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System calls with a time-out, of which the kernel tells how much is left: they go on with that. One that began anew
 * would take BEFORE_MS more.
 */
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "waits.h"

static uint32_t word; /* nobody changes or wakes it */

static struct timespec until(clockid_t clock, const struct timespec *full)
{
	struct timespec time;

	clock_gettime(clock, &time);
	time.tv_sec += full->tv_sec;
	return time;
}

/* ---- Sleeps ---- */

static long sleep_without_rest(const struct timespec *full)
{
	return nanosleep(full, NULL);
}

static long sleep_with_rest(const struct timespec *full)
{
	struct timespec rest;

	return nanosleep(full, &rest);
}

/* The call's number isn't a constant in the code before it. */
static long sleep_by_number(const struct timespec *full)
{
	return syscall(SYS_nanosleep, full, NULL);
}

static long sleep_on_clock(const struct timespec *full)
{
	return clock_nanosleep(CLOCK_BOOTTIME, 0, full, NULL);
}

static long sleep_on_clock_by_number(const struct timespec *full)
{
	return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, full, NULL);
}

static long sleep_until(const struct timespec *full)
{
	struct timespec time = until(CLOCK_MONOTONIC, full);

	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* ---- Polls ---- */

static int milliseconds(const struct timespec *full)
{
	return (int)full->tv_sec * 1000;
}

static long poll_nothing(const struct timespec *full)
{
	return poll(NULL, 0, milliseconds(full));
}

static long poll_by_number(const struct timespec *full)
{
	return syscall(SYS_poll, NULL, 0, milliseconds(full));
}

static long ppoll_nothing(const struct timespec *full)
{
	sigset_t none;

	sigemptyset(&none);
	sigaddset(&none, SIGUSR1);
	return ppoll(NULL, 0, full, &none);
}

static long select_nothing(const struct timespec *full)
{
	struct timeval time = {.tv_sec = full->tv_sec};

	return select(0, NULL, NULL, NULL, &time);
}

static long pselect_nothing(const struct timespec *full)
{
	return pselect(0, NULL, NULL, NULL, full, NULL);
}

static long epoll_nothing(const struct timespec *full)
{
	struct epoll_event event;

	return epoll_wait(epoll_create1(EPOLL_CLOEXEC), &event, 1, milliseconds(full));
}

static long epoll_masked(const struct timespec *full)
{
	struct epoll_event event;
	sigset_t some;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	return epoll_pwait(epoll_create1(EPOLL_CLOEXEC), &event, 1, milliseconds(full), &some);
}

static long epoll_to_the_nanosecond(const struct timespec *full)
{
	struct epoll_event event;

	return epoll_pwait2(epoll_create1(EPOLL_CLOEXEC), &event, 1, full, NULL);
}

/* ---- Futexes ---- */

static long futex_wait(const struct timespec *full)
{
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, full, NULL, 0);
}

static long futex_wait_until(const struct timespec *full)
{
	struct timespec time = until(CLOCK_MONOTONIC, full);

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &time, NULL,
	               FUTEX_BITSET_MATCH_ANY);
}

static long futex_wait_until_real(const struct timespec *full)
{
	struct timespec time = until(CLOCK_REALTIME, full);

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &time, NULL,
	               FUTEX_BITSET_MATCH_ANY);
}

static long futex_wait_many(const struct timespec *full)
{
	struct timespec time = until(CLOCK_MONOTONIC, full);
	struct futex_waitv wait = {.uaddr = (uintptr_t)&word, .flags = FUTEX_32};

	return syscall(SYS_futex_waitv, &wait, 1, 0, &time, CLOCK_MONOTONIC);
}

static long condition_wait(const struct timespec *full)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
	struct timespec time = until(CLOCK_REALTIME, full);

	pthread_mutex_lock(&mutex);
	long result = pthread_cond_timedwait(&condition, &mutex, &time);
	pthread_mutex_unlock(&mutex);
	return result;
}

static long semaphore_wait(const struct timespec *full)
{
	struct timespec time = until(CLOCK_MONOTONIC, full);
	sem_t semaphore;

	sem_init(&semaphore, 0, 0);
	return sem_clockwait(&semaphore, CLOCK_MONOTONIC, &time);
}

/* ---- A timer ---- */

static long timer_read(const struct timespec *full)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct itimerspec once = {.it_value = *full};
	uint64_t ticks = 0;

	timerfd_settime(fd, 0, &once, NULL);
	return read(fd, &ticks, sizeof(ticks)) == sizeof(ticks) ? (long)ticks : -1;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct wait waits[] = {
		{.name = "nanosleep", .wait = sleep_without_rest},
		{.name = "nanosleep with a rest", .wait = sleep_with_rest},
		{.name = "nanosleep by number", .wait = sleep_by_number},
		{.name = "clock_nanosleep", .wait = sleep_on_clock},
		{.name = "clock_nanosleep by number", .wait = sleep_on_clock_by_number},
		{.name = "clock_nanosleep until", .wait = sleep_until},
		{.name = "poll", .wait = poll_nothing},
		{.name = "poll by number", .wait = poll_by_number},
		{.name = "ppoll", .wait = ppoll_nothing},
		{.name = "select", .wait = select_nothing},
		{.name = "pselect", .wait = pselect_nothing},
		{.name = "epoll_wait", .wait = epoll_nothing},
		{.name = "epoll_pwait", .wait = epoll_masked},
		{.name = "epoll_pwait2", .wait = epoll_to_the_nanosecond},
		{.name = "FUTEX_WAIT", .wait = futex_wait, .expected = -1, .expected_errno = ETIMEDOUT},
		{.name = "FUTEX_WAIT_BITSET", .wait = futex_wait_until, .expected = -1, .expected_errno = ETIMEDOUT},
		{.name = "FUTEX_CLOCK_REALTIME",
	         .wait = futex_wait_until_real,
	         .expected = -1,
	         .expected_errno = ETIMEDOUT},
		{.name = "futex_waitv", .wait = futex_wait_many, .expected = -1, .expected_errno = ETIMEDOUT},
		{.name = "condition", .wait = condition_wait, .expected = ETIMEDOUT},
		{.name = "semaphore", .wait = semaphore_wait, .expected = -1, .expected_errno = ETIMEDOUT},
		{.name = "timerfd", .wait = timer_read, .expected = 1},
	};
	enum { COUNT = sizeof(waits) / sizeof(waits[0]) };

	waits_start(&subject, waits, COUNT);
	subject_ready(&subject);
	waits_check(&subject, waits, COUNT, FULL_MS + BEFORE_MS);
	return subject_pass(&subject);
}
