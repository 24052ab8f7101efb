/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * inotify(7) from the inside: watches on a folder, a file, one event only, with gaps in their numbers; no event but those
 * that the program makes afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "subject.h"

static char *path_of(const struct subject *subject, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, name);
	return path;
}

static int watch(const struct subject *subject, int fd, const char *name, uint32_t mask)
{
	int wd = inotify_add_watch(fd, path_of(subject, name), mask);

	if (wd < 0)
		subject_fail(subject, "inotify_add_watch(%s): errno %d", name, errno);
	return wd;
}

static void make_file(const struct subject *subject, const char *name)
{
	int fd = open(path_of(subject, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0)
		subject_fail(subject, "%s: errno %d", name, errno);
}

static void expect(const struct subject *subject, const char *what, int fd, int wd, uint32_t mask)
{
	union {
		struct inotify_event event;
		char bytes[sizeof(struct inotify_event) + 16]; /* one with a short name, and no room for the next */
	} seen;
	ssize_t count = read(fd, &seen, sizeof(seen));

	if (wd == 0 && count < 0 && errno == EAGAIN)
		return;
	if (count < (ssize_t)sizeof(seen.event) || count > (ssize_t)(sizeof(seen.event) + seen.event.len))
		subject_fail(subject, "%s: %zd bytes, errno %d", what, count, errno);
	if (seen.event.wd != wd || seen.event.mask != mask)
		subject_fail(subject, "%s: watch %d, mask %#x", what, seen.event.wd, seen.event.mask);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int fd = inotify_init1(IN_NONBLOCK);

	mkdir(path_of(&subject, "folder"), 0700);
	mkdir(path_of(&subject, "other"), 0700);
	make_file(&subject, "file");
	inotify_rm_watch(fd, watch(&subject, fd, "other", IN_CREATE));
	expect(&subject, "a watch that ends", fd, 1, IN_IGNORED);
	int folder = watch(&subject, fd, "folder", IN_CREATE | IN_ONLYDIR);
	inotify_rm_watch(fd, watch(&subject, fd, "other", IN_CREATE));
	expect(&subject, "another watch that ends", fd, 3, IN_IGNORED);
	int file = watch(&subject, fd, "file", IN_MODIFY);
	int once = watch(&subject, fd, "other", IN_CREATE | IN_ONESHOT);

	subject_ready(&subject);

	expect(&subject, "nothing yet", fd, 0, 0);
	make_file(&subject, "folder/new");
	expect(&subject, "folder", fd, folder, IN_CREATE);
	make_file(&subject, "file");
	expect(&subject, "file", fd, file, IN_MODIFY);
	make_file(&subject, "other/one");
	expect(&subject, "once", fd, once, IN_CREATE);
	expect(&subject, "its end", fd, once, IN_IGNORED);
	make_file(&subject, "other/two");
	expect(&subject, "once only", fd, 0, 0);
	if (folder != 2 || file != 4 || once != 5 || inotify_rm_watch(fd, file) != 0)
		subject_fail(&subject, "watches %d, %d, %d", folder, file, once);
	return subject_pass(&subject);
}
