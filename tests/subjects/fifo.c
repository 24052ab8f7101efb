/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Named pipes from the inside: one with content and both ends, one that is open for reading and writing at once and has
 * been deleted. The trap: opening one end waits for the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "subject.h"

enum { CAPACITY = 128 * 1024 };

static void make_fifo(const struct subject *subject, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", subject->dir, name);
	if (mkfifo(path, 0620) != 0 || chmod(path, 0620) != 0)
		subject_fail(subject, "mkfifo(%s): errno %d", path, errno);
}

static int open_fifo(const struct subject *subject, const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		subject_fail(subject, "open(%s, %#o): errno %d", path, flags, errno);
	return fd;
}

static void check_read(const struct subject *subject, const char *what, int fd, const char *expected)
{
	char seen[64] = "";
	ssize_t count = read(fd, seen, sizeof(seen) - 1);

	if (count != (ssize_t)strlen(expected) || strcmp(seen, expected) != 0)
		subject_fail(subject, "%s: '%s' (%zd, errno %d), not '%s'", what, seen, count, errno, expected);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char path[PATH_MAX];
	char gone[PATH_MAX];
	struct stat stat;

	make_fifo(&subject, "fifo", path);
	make_fifo(&subject, "gone", gone);
	int reader = open_fifo(&subject, path, O_RDONLY | O_NONBLOCK);
	int writer = open_fifo(&subject, path, O_WRONLY | O_CLOEXEC);
	int both = open_fifo(&subject, gone, O_RDWR | O_NONBLOCK);
	if (fcntl(writer, F_SETPIPE_SZ, CAPACITY) != CAPACITY || write(writer, "in the fifo", 11) != 11 ||
	    write(both, "in the other", 12) != 12 || unlink(gone) != 0)
		subject_fail(&subject, "set-up: errno %d", errno);

	subject_ready(&subject);

	check_read(&subject, "fifo", reader, "in the fifo");
	if (fcntl(reader, F_GETPIPE_SZ) != CAPACITY)
		subject_fail(&subject, "size %d", fcntl(reader, F_GETPIPE_SZ));
	if (write(writer, "more", 4) != 4)
		subject_fail(&subject, "write: errno %d", errno);
	check_read(&subject, "fifo, later", reader, "more");
	/* The kernel adds O_LARGEFILE. */
	if ((fcntl(reader, F_GETFL) & ~0100000) != O_NONBLOCK || (fcntl(writer, F_GETFL) & ~0100000) != O_WRONLY ||
	    fcntl(writer, F_GETFD) != FD_CLOEXEC)
		subject_fail(&subject, "flags %#o, %#o", fcntl(reader, F_GETFL), fcntl(writer, F_GETFL));
	close(writer);
	check_read(&subject, "fifo without a writer", reader, "");

	check_read(&subject, "deleted fifo", both, "in the other");
	if (fstat(both, &stat) != 0 || stat.st_nlink != 0 || (stat.st_mode & 0777) != 0620 || access(gone, F_OK) == 0)
		subject_fail(&subject, "deleted fifo: %ju names, mode %o", (uintmax_t)stat.st_nlink, stat.st_mode);
	return subject_pass(&subject);
}
