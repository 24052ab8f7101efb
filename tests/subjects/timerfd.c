/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * timerfd_create(2) from the inside: expirations that wait, time that is left, a timer that never was set, one that was
 * set to a point in time of a clock that may be put forward, and is cancelled then.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "subject.h"

enum { FAR_SECONDS = 5000 };

static int make(const struct subject *subject, int clock, const struct itimerspec *time, int flags)
{
	int fd = timerfd_create(clock, TFD_NONBLOCK);

	if (fd < 0 || (time && timerfd_settime(fd, flags, time, NULL) != 0))
		subject_fail(subject, "timer: errno %d", errno);
	return fd;
}

static struct itimerspec left(const struct subject *subject, int fd)
{
	struct itimerspec time;

	if (timerfd_gettime(fd, &time) != 0)
		subject_fail(subject, "timerfd_gettime: errno %d", errno);
	return time;
}

static void check_far(const struct subject *subject, const char *what, int fd)
{
	struct itimerspec time = left(subject, fd);

	if (time.it_value.tv_sec > FAR_SECONDS || time.it_value.tv_sec < FAR_SECONDS - 600 ||
	    time.it_interval.tv_sec != 321 || time.it_interval.tv_nsec != 654)
		subject_fail(subject, "%s: %jd s, then every %jd s %ld ns", what, (intmax_t)time.it_value.tv_sec,
		             (intmax_t)time.it_interval.tv_sec, time.it_interval.tv_nsec);
}

/* As its fdinfo tells it: nobody may put the clock forward here. */
static void check_flags(const struct subject *subject, int fd, int expected)
{
	char path[64];
	char text[512] = "";
	int flags = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	int info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0 || read(info, text, sizeof(text) - 1) <= 0)
		subject_fail(subject, "%s: errno %d", path, errno);
	close(info);
	const char *found = strstr(text, "settime flags:");
	if (!found || sscanf(found, "settime flags: %o", &flags) != 1 || flags != expected)
		subject_fail(subject, "timer set with flags %d, not %d", flags, expected);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct itimerspec far = {.it_value.tv_sec = FAR_SECONDS, .it_interval = {321, 654}};
	struct itimerspec soon = {.it_value.tv_nsec = 1};
	struct timespec now;
	uint64_t ticks = 0;

	int relative = make(&subject, CLOCK_BOOTTIME, &far, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	far.it_value.tv_sec += now.tv_sec;
	int absolute = make(&subject, CLOCK_REALTIME, &far, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	int expired = make(&subject, CLOCK_MONOTONIC, &soon, 0);
	int unset = make(&subject, CLOCK_MONOTONIC, NULL, 0);
	struct pollfd wait = {.fd = expired, .events = POLLIN};
	if (poll(&wait, 1, -1) != 1)
		subject_fail(&subject, "poll: errno %d", errno);

	subject_ready(&subject);

	check_far(&subject, "relative", relative);
	check_far(&subject, "absolute", absolute);
	check_flags(&subject, absolute, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	if (read(expired, &ticks, sizeof(ticks)) != sizeof(ticks) || ticks != 1)
		subject_fail(&subject, "%" PRIu64 " expirations, errno %d", ticks, errno);
	if (left(&subject, expired).it_value.tv_sec || left(&subject, unset).it_value.tv_sec)
		subject_fail(&subject, "a timer runs that was not set");
	if (read(unset, &ticks, sizeof(ticks)) >= 0 || errno != EAGAIN)
		subject_fail(&subject, "a timer that was never set has expired, or waits");
	return subject_pass(&subject);
}
