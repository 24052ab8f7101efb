/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * epoll(7) from the inside: data of 64 bits, a watch of one event only (EPOLLONESHOT) that has come already, an epoll in
 * an epoll, a second number of the same file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "subject.h"

static const uint64_t data_of_counter = 0xfedcba9876543210;
static const uint64_t data_of_inner = 0x1122334455667788;
static const uint64_t data_of_once = 77;

static void add(const struct subject *subject, int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		subject_fail(subject, "epoll_ctl: errno %d", errno);
}

/* Exactly one event, with that data; 0: none. */
static void expect(const struct subject *subject, const char *what, int epoll, uint64_t data)
{
	struct epoll_event events[4];
	int count = epoll_wait(epoll, events, 4, 0);

	if (count != (data != 0))
		subject_fail(subject, "%s: %d events", what, count);
	if (data && events[0].data.u64 != data)
		subject_fail(subject, "%s: data %#" PRIx64, what, (uint64_t)events[0].data.u64);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int outer = epoll_create1(EPOLL_CLOEXEC);
	int inner = epoll_create1(0);
	int counter = eventfd(0, EFD_NONBLOCK);
	int twin = fcntl(counter, F_DUPFD, 50);
	int once = eventfd(1, EFD_NONBLOCK);
	eventfd_t value;

	add(&subject, inner, counter, EPOLLIN, data_of_counter);
	add(&subject, inner, once, EPOLLIN | EPOLLONESHOT, data_of_once);
	add(&subject, inner, twin, EPOLLPRI, 5);
	add(&subject, outer, inner, EPOLLIN, data_of_inner);
	expect(&subject, "one shot", inner, data_of_once);

	subject_ready(&subject);

	expect(&subject, "one shot, once more", inner, 0);
	if (eventfd_write(counter, 3) != 0)
		subject_fail(&subject, "write: errno %d", errno);
	expect(&subject, "counter", inner, data_of_counter);
	expect(&subject, "epoll in an epoll", outer, data_of_inner);
	eventfd_read(counter, &value);
	struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = data_of_once};
	if (epoll_ctl(inner, EPOLL_CTL_MOD, once, &again) != 0 || epoll_ctl(inner, EPOLL_CTL_DEL, twin, NULL) != 0)
		subject_fail(&subject, "watches are not there: errno %d", errno);
	expect(&subject, "one shot, armed again", inner, data_of_once);
	if (fcntl(outer, F_GETFD) != FD_CLOEXEC || fcntl(inner, F_GETFD) != 0)
		subject_fail(&subject, "close-on-exec changed");
	return subject_pass(&subject);
}
