/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Locks on files from the inside: flock(2), fcntl(2) of POSIX and OFD, a lease. A child of the program tries what must
 * not work while the program has them, and what must work again afterwards. The traps: locks of POSIX end with any
 * close(2) of the file; each lock has its own range; there is one file system for
 * both hosts, where the program that is moved still has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "subject.h"

struct files {
	int posix, posix_again, flock_exclusive, flock_shared, ofd, leased;
};

static int open_file(const struct subject *subject, const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, name);
	int fd = open(path, flags | O_CREAT, 0600);
	if (fd < 0)
		subject_fail(subject, "open %s: errno %d", name, errno);
	return fd;
}

static struct flock range(int type, off_t start, off_t length)
{
	return (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static void lock(const struct subject *subject, int fd, int command, struct flock wanted)
{
	if (fcntl(fd, command, &wanted) != 0)
		subject_fail(subject, "fcntl(%d): errno %d", command, errno);
}

static struct files take(const struct subject *subject)
{
	struct files files = {
		.posix = open_file(subject, "posix", O_RDWR),
		.posix_again = open_file(subject, "posix", O_RDONLY),
		.flock_exclusive = open_file(subject, "exclusive", O_RDWR),
		.flock_shared = open_file(subject, "shared", O_RDONLY),
		.ofd = open_file(subject, "ofd", O_RDWR),
		.leased = open_file(subject, "leased", O_RDONLY),
	};

	lock(subject, files.posix, F_SETLK, range(F_WRLCK, 10, 5));
	lock(subject, files.posix, F_SETLK, range(F_RDLCK, 100, 0));
	lock(subject, files.ofd, F_OFD_SETLK, range(F_WRLCK, 1000, 24));
	if (flock(files.flock_exclusive, LOCK_EX) != 0 || flock(files.flock_shared, LOCK_SH) != 0 ||
	    fcntl(files.leased, F_SETLEASE, F_RDLCK) != 0)
		subject_fail(subject, "flock, lease: errno %d", errno);
	return files;
}

/* Another process, and other descriptions: what is in the way is somebody else's lock there. */
static bool is_free(const struct subject *subject, const char *name, int type, off_t start, off_t length)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		struct flock wanted = range(type, start, length);
		int fd = open_file(subject, name, O_RDWR);
		int r = length < 0 ? flock(fd, (type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB)
		                   : fcntl(fd, F_SETLK, &wanted);
		_exit(r != 0);
	}
	waitpid(child, &status, 0);
	return status == 0;
}

static void expect(const struct subject *subject, const char *what, bool is_free_now, bool should_be)
{
	if (is_free_now != should_be)
		subject_fail(subject, "%s: %s", what, is_free_now ? "free" : "taken");
}

static void check(const struct subject *subject, const struct files *files)
{
	expect(subject, "in front of a range", is_free(subject, "posix", F_WRLCK, 9, 1), true);
	expect(subject, "first byte of a range", is_free(subject, "posix", F_RDLCK, 10, 1), false);
	expect(subject, "last byte of a range", is_free(subject, "posix", F_RDLCK, 14, 1), false);
	expect(subject, "behind a range", is_free(subject, "posix", F_WRLCK, 15, 1), true);
	expect(subject, "range to the end, for reading", is_free(subject, "posix", F_RDLCK, 5000, 1), true);
	expect(subject, "range to the end, for writing", is_free(subject, "posix", F_WRLCK, 5000, 1), false);
	expect(subject, "OFD", is_free(subject, "ofd", F_RDLCK, 1023, 1), false);
	expect(subject, "behind OFD", is_free(subject, "ofd", F_WRLCK, 1024, 1), true);
	expect(subject, "flock", is_free(subject, "exclusive", F_RDLCK, 0, -1), false);
	expect(subject, "shared flock", is_free(subject, "shared", F_RDLCK, 0, -1), true);
	expect(subject, "shared flock, exclusively", is_free(subject, "shared", F_WRLCK, 0, -1), false);
	if (fcntl(files->leased, F_GETLEASE) != F_RDLCK)
		subject_fail(subject, "lease: %d", fcntl(files->leased, F_GETLEASE));

	/* They are this process's own, and end as such. */
	lock(subject, files->ofd, F_OFD_SETLK, range(F_UNLCK, 1000, 24));
	flock(files->flock_exclusive, LOCK_UN);
	close(files->posix_again);
	expect(subject, "POSIX, after a close", is_free(subject, "posix", F_WRLCK, 0, 0), true);
	expect(subject, "OFD, given up", is_free(subject, "ofd", F_WRLCK, 0, 0), true);
	expect(subject, "flock, given up", is_free(subject, "exclusive", F_WRLCK, 0, -1), true);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct files files = take(&subject);

	subject_ready(&subject);

	check(&subject, &files);
	return subject_pass(&subject);
}
