/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a path leads to, from the inside: position, flags, one description behind two descriptors, folders, devices of
 * memory, O_PATH, deleted files with a hole, files of O_TMPFILE that get a name later. The traps: a deleted file that
 * is open twice is one file; its name may belong to another file by now; a deleted folder is one, too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "subject.h"

static const off_t hole_end = 3 * 1024 * 1024 + 17;

enum { OWNER = 4321, GROUP = 1234, READ_S = 1000000007, WRITTEN_S = 1234567891, WRITTEN_US = 654321 };

struct files {
	int plain, twin;   /* one description */
	int log;           /* O_APPEND */
	int folder, place; /* place: O_PATH of a symbolic link */
	int zero, null, full, random, urandom;
	int ghost, ghost_again; /* one deleted file, two descriptions */
	int replaced;           /* deleted, and its name is another file's */
	int nameless;           /* O_TMPFILE */
	int gone_folder;
};

static int open_in(const struct subject *subject, const char *name, int flags, const char *content)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, name);
	int fd = open(path, flags, 0640);
	if (fd < 0)
		subject_fail(subject, "open(%s): errno %d", path, errno);
	if (content && write(fd, content, strlen(content)) != (ssize_t)strlen(content))
		subject_fail(subject, "write(%s): errno %d", path, errno);
	return fd;
}

static void delete_in(const struct subject *subject, const char *name, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", subject->dir, name);
	if (unlinkat(AT_FDCWD, path, flags) < 0)
		subject_fail(subject, "unlink(%s): errno %d", path, errno);
}

static int open_again(const struct subject *subject, int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, flags);
	if (again < 0)
		subject_fail(subject, "open(%s): errno %d", path, errno);
	return again;
}

static void make_ghosts(const struct subject *subject, struct files *files)
{
	char path[PATH_MAX];

	files->ghost = open_in(subject, "ghost", O_RDWR | O_CREAT, "boo");
	const struct timespec times[] = {{.tv_sec = READ_S}, {.tv_sec = WRITTEN_S, .tv_nsec = WRITTEN_US * 1000}};
	if (pwrite(files->ghost, "end", 3, hole_end - 3) != 3 || fchown(files->ghost, OWNER, GROUP) != 0 ||
	    fchmod(files->ghost, 0604) != 0 || futimens(files->ghost, times) != 0)
		subject_fail(subject, "ghost: errno %d", errno);
	files->ghost_again = open_again(subject, files->ghost, O_RDONLY);
	lseek(files->ghost_again, 1, SEEK_SET);
	delete_in(subject, "ghost", 0);

	files->replaced = open_in(subject, "name", O_RDWR | O_CREAT, "the old one");
	delete_in(subject, "name", 0);
	close(open_in(subject, "name", O_WRONLY | O_CREAT, "the new one"));

	files->nameless = open(subject->dir, O_TMPFILE | O_RDWR, 0600);
	if (files->nameless < 0 || write(files->nameless, "no name yet", 11) != 11)
		subject_fail(subject, "O_TMPFILE: errno %d", errno);

	snprintf(path, sizeof(path), "%s/gone", subject->dir);
	if (mkdir(path, 0711) != 0)
		subject_fail(subject, "mkdir: errno %d", errno);
	files->gone_folder = open_in(subject, "gone", O_RDONLY | O_DIRECTORY, NULL);
	delete_in(subject, "gone", AT_REMOVEDIR);
}

static struct files make(const struct subject *subject)
{
	struct files files;
	char path[PATH_MAX];

	files.plain = open_in(subject, "plain", O_RDWR | O_CREAT | O_NONBLOCK, "0123456789");
	files.twin = dup(files.plain);
	lseek(files.plain, 7, SEEK_SET);
	files.log = open_in(subject, "log", O_WRONLY | O_CREAT | O_APPEND | O_DSYNC | O_CLOEXEC, "line\n");
	files.folder = open_in(subject, ".", O_RDONLY | O_DIRECTORY, NULL);
	snprintf(path, sizeof(path), "%s/link", subject->dir);
	if (symlink("nowhere", path) != 0)
		subject_fail(subject, "symlink: errno %d", errno);
	files.place = open_in(subject, "link", O_PATH | O_NOFOLLOW, NULL);
	files.zero = open("/dev/zero", O_RDONLY);
	files.null = open("/dev/null", O_WRONLY);
	files.full = open("/dev/full", O_RDWR);
	files.random = open("/dev/random", O_RDONLY);
	files.urandom = open("/dev/urandom", O_RDONLY);
	make_ghosts(subject, &files);
	return files;
}

static void check_content(const struct subject *subject, const char *what, int fd, off_t offset, const char *expected)
{
	char seen[64] = "";
	ssize_t count = pread(fd, seen, strlen(expected), offset);

	if (count != (ssize_t)strlen(expected) || memcmp(seen, expected, (size_t)count) != 0)
		subject_fail(subject, "%s: '%s' (%zd bytes, errno %d), not '%s'", what, seen, count, errno, expected);
}

static void check_flags(const struct subject *subject, const char *what, int fd, int expected)
{
	int seen = fcntl(fd, F_GETFL) & ~O_LARGEFILE;

	/* The C library's O_LARGEFILE is 0 here, the kernel's bit is 0100000. */
	if ((seen & ~0100000) != expected)
		subject_fail(subject, "%s: flags %#o, not %#o", what, seen, expected);
}

static void check_link(const struct subject *subject, const char *what, int fd, const char *expected)
{
	char path[64];
	char seen[PATH_MAX] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, seen, sizeof(seen) - 1) < 0 || strcmp(seen, expected) != 0)
		subject_fail(subject, "%s: is '%s', not '%s'", what, seen, expected);
}

static void check_plain(const struct subject *subject, const struct files *files)
{
	char byte[2] = "";

	check_flags(subject, "file", files->plain, O_RDWR | O_NONBLOCK);
	if (lseek(files->plain, 0, SEEK_CUR) != 7 || read(files->twin, byte, 1) != 1 || byte[0] != '7')
		subject_fail(subject, "position: read '%s'", byte);
	if (lseek(files->plain, 0, SEEK_CUR) != 8)
		subject_fail(subject, "the twin has a position of its own");

	check_flags(subject, "log", files->log, O_WRONLY | O_APPEND | O_DSYNC);
	if (fcntl(files->log, F_GETFD) != FD_CLOEXEC || write(files->log, "more\n", 5) != 5)
		subject_fail(subject, "log: errno %d", errno);
	int log = open_in(subject, "log", O_RDONLY, NULL);
	check_content(subject, "log", log, 0, "line\nmore\n");
	close(log);
}

static void check_places(const struct subject *subject, const struct files *files)
{
	struct stat stat;
	char zeros[4] = "abc";
	char target[16] = "";

	if (fstatat(files->folder, "plain", &stat, 0) != 0 || !S_ISREG(stat.st_mode))
		subject_fail(subject, "folder: errno %d", errno);
	check_flags(subject, "folder", files->folder, O_RDONLY | O_DIRECTORY);
	check_flags(subject, "place", files->place, O_PATH | O_NOFOLLOW);
	if (readlinkat(files->place, "", target, sizeof(target) - 1) != 7 || strcmp(target, "nowhere") != 0)
		subject_fail(subject, "place: leads to '%s'", target);
	if (read(files->zero, zeros, 3) != 3 || memcmp(zeros, "\0\0\0", 3) != 0 || write(files->null, "x", 1) != 1)
		subject_fail(subject, "devices: errno %d", errno);
	if (write(files->full, "x", 1) != -1 || errno != ENOSPC || read(files->random, zeros, 3) != 3 ||
	    read(files->urandom, zeros, 3) != 3)
		subject_fail(subject, "devices: errno %d", errno);
	check_link(subject, "zero", files->zero, "/dev/zero");
	check_link(subject, "null", files->null, "/dev/null");
	check_link(subject, "full", files->full, "/dev/full");
	check_link(subject, "random", files->random, "/dev/random");
	check_link(subject, "urandom", files->urandom, "/dev/urandom");
}

static void check_ghosts(const struct subject *subject, const struct files *files)
{
	struct stat stat;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/ghost (deleted)", subject->dir);
	check_link(subject, "deleted file", files->ghost, path);
	if (fstat(files->ghost, &stat) != 0 || stat.st_nlink != 0 || stat.st_size != hole_end ||
	    (stat.st_mode & 07777) != 0604)
		subject_fail(subject, "deleted file: %ju names, %jd bytes, mode %o", (uintmax_t)stat.st_nlink,
		             (intmax_t)stat.st_size, stat.st_mode);
	if (stat.st_uid != OWNER || stat.st_gid != GROUP)
		subject_fail(subject, "deleted file: of user %u, group %u", stat.st_uid, stat.st_gid);
	if (stat.st_mtim.tv_sec != WRITTEN_S || stat.st_mtim.tv_nsec != WRITTEN_US * 1000 ||
	    stat.st_atim.tv_sec != READ_S)
		subject_fail(subject, "deleted file: written at %jd, read at %jd", (intmax_t)stat.st_mtim.tv_sec,
		             (intmax_t)stat.st_atim.tv_sec);
	if (stat.st_blocks * 512 > hole_end / 2)
		subject_fail(subject, "deleted file: its hole is gone, it has %jd blocks", (intmax_t)stat.st_blocks);
	check_content(subject, "deleted file", files->ghost, hole_end - 3, "end");
	if (lseek(files->ghost, 0, SEEK_CUR) != 3 || lseek(files->ghost_again, 0, SEEK_CUR) != 1)
		subject_fail(subject, "deleted file: position");
	if (pwrite(files->ghost, "B", 1, 0) != 1)
		subject_fail(subject, "deleted file: write: errno %d", errno);
	check_content(subject, "deleted file, opened again", files->ghost_again, 0, "Boo");
	check_flags(subject, "deleted file, opened again", files->ghost_again, O_RDONLY);

	check_content(subject, "replaced file", files->replaced, 0, "the old one");
	int now = open_in(subject, "name", O_RDONLY, NULL);
	check_content(subject, "file that took the name", now, 0, "the new one");
	close(now);

	if (fstat(files->gone_folder, &stat) != 0 || !S_ISDIR(stat.st_mode) || (stat.st_mode & 07777) != 0711 ||
	    openat(files->gone_folder, "new", O_WRONLY | O_CREAT, 0600) >= 0)
		subject_fail(subject, "deleted folder: mode %o", stat.st_mode);
}

static void check_nameless(const struct subject *subject, const struct files *files)
{
	char path[PATH_MAX];
	char source[64];

	check_content(subject, "file without a name", files->nameless, 0, "no name yet");
	snprintf(source, sizeof(source), "/proc/self/fd/%d", files->nameless);
	snprintf(path, sizeof(path), "%s/named", subject->dir);
	if (linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
		subject_fail(subject, "file without a name can't get one: errno %d", errno);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct files files = make(&subject);

	subject_ready(&subject);

	check_plain(&subject, &files);
	check_places(&subject, &files);
	check_ghosts(&subject, &files);
	check_nameless(&subject, &files);
	return subject_pass(&subject);
}
