/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * memfds from the inside: name, size that is no number of pages, content with holes, seals, owner, mode, positions; one that is
 * open twice and mapped in parts, one that is mapped only, privately too, one that is neither but open for reading.
 */
#include <errno.h>
#include <linux/memfd.h>
#include <sys/stat.h>

#include "smaps.h"

enum {
	PAGES = 20,
	SIZE = PAGES * SMAPS_PAGE_BYTES - 123,
	HOLE = 7,
	HOLE_PAGES = 5,
	PART = 13,
	SEED = 31,
	OWNER = 4321,
	GROUP = 1234
};

static int make(const struct subject *subject, const char *name, unsigned flags)
{
	char *page = aligned_alloc(SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES);
	int fd = memfd_create(name, flags);

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		subject_fail(subject, "memfd_create(%s): errno %d", name, errno);
	for (size_t i = 0; i < PAGES; i++) {
		size_t size = i == PAGES - 1 ? SIZE % SMAPS_PAGE_BYTES : SMAPS_PAGE_BYTES;

		if (i >= HOLE && i < HOLE + HOLE_PAGES)
			continue;
		memset(page, (int)i + SEED, SMAPS_PAGE_BYTES);
		if (pwrite(fd, page, size, (off_t)i * SMAPS_PAGE_BYTES) != (ssize_t)size)
			subject_fail(subject, "write: errno %d", errno);
	}
	free(page);
	return fd;
}

static void check_content(const struct subject *subject, const char *what, int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0 || stat.st_size != SIZE)
		subject_fail(subject, "%s: size %lld", what, (long long)stat.st_size);
	if (stat.st_blocks * 512 > (PAGES - HOLE_PAGES) * SMAPS_PAGE_BYTES)
		subject_fail(subject, "%s: the hole takes memory: %lld blocks", what, (long long)stat.st_blocks);
	for (off_t i = 0; i < SIZE; i++) {
		off_t page = i / SMAPS_PAGE_BYTES;
		unsigned char expected = page >= HOLE && page < HOLE + HOLE_PAGES ? 0 : (unsigned char)(page + SEED);
		unsigned char seen;

		if (i % 512 != 0 && i != SIZE - 1)
			continue;
		if (pread(fd, &seen, 1, i) != 1 || seen != expected)
			subject_fail(subject, "%s: byte %lld is %d, not %d", what, (long long)i, seen, expected);
	}
}

static void check_link(const struct subject *subject, int fd, const char *expected)
{
	char path[64], link[512] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, link, sizeof(link) - 1) < 0 || strcmp(link, expected) != 0)
		subject_fail(subject, "fd %d leads to %s, not %s", fd, link, expected);
}

static int open_again(const struct subject *subject, int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, flags);
	if (again < 0)
		subject_fail(subject, "open again: errno %d", errno);
	return again;
}

static void check_seals(const struct subject *subject, const char *what, int fd, int expected)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals != expected)
		subject_fail(subject, "%s: seals %#x, not %#x", what, seals, expected);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

	int shared = make(&subject, "a name with spaces/and more\n", MFD_CLOEXEC);
	int reader = open_again(&subject, shared, O_RDONLY | O_NONBLOCK);
	int twin = dup(shared);
	char *whole = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	char *part = mmap(NULL, 3 * SMAPS_PAGE_BYTES, PROT_READ, MAP_SHARED, reader, PART * SMAPS_PAGE_BYTES);
	lseek(shared, 4321, SEEK_SET);
	lseek(reader, 99, SEEK_SET);
	if (fchown(shared, OWNER, GROUP) < 0 || fchmod(shared, 0640) < 0)
		subject_fail(&subject, "owner and mode: errno %d", errno);

	int sealed = make(&subject, "sealed", MFD_ALLOW_SEALING);
	if (fcntl(sealed, F_ADD_SEALS, seals) < 0)
		subject_fail(&subject, "seals: errno %d", errno);
	int future = make(&subject, "", MFD_ALLOW_SEALING);
	char *writable = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
	if (fcntl(future, F_ADD_SEALS, 0x10 /* F_SEAL_FUTURE_WRITE, Linux 5.1 */) < 0)
		subject_fail(&subject, "seal: errno %d", errno);

	int closed = make(&subject, "only mapped", 0);
	char *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, closed, 0);
	char *common = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0);
	close(closed);
	if (whole == MAP_FAILED || part == MAP_FAILED || writable == MAP_FAILED || own == MAP_FAILED ||
	    common == MAP_FAILED)
		subject_fail(&subject, "mmap: errno %d", errno);
	memset(own + 2 * SMAPS_PAGE_BYTES, 'o', SMAPS_PAGE_BYTES);
	int nothing = open_again(&subject, make(&subject, "nothing but this", 0), O_RDONLY);
	for (int fd = 3; fd < 64; fd++) /* the one it was made with */
		if (fd != shared && fd != reader && fd != twin && fd != sealed && fd != future && fd != nothing)
			close(fd);
	smaps_before(smaps);

	subject_ready(&subject);

	struct stat stat;
	smaps_check(smaps, &subject);
	check_content(&subject, "shared", shared);
	check_content(&subject, "reader", reader);
	check_content(&subject, "sealed", sealed);
	check_content(&subject, "future", future);
	check_content(&subject, "nothing but this", nothing);
	check_link(&subject, shared, "/memfd:a name with spaces/and more\n (deleted)");
	check_link(&subject, reader, "/memfd:a name with spaces/and more\n (deleted)");
	check_link(&subject, future, "/memfd: (deleted)");
	check_seals(&subject, "shared", shared, F_SEAL_SEAL);
	check_seals(&subject, "sealed", sealed, seals);
	check_seals(&subject, "future", future, 0x10);
	if (fstat(shared, &stat) < 0 || (stat.st_mode & 07777) != 0640 || stat.st_uid != OWNER || stat.st_gid != GROUP)
		subject_fail(&subject, "mode %o, of user %u, group %u", stat.st_mode, stat.st_uid, stat.st_gid);
	if (fcntl(shared, F_GETFD) != FD_CLOEXEC || fcntl(twin, F_GETFD) != 0)
		subject_fail(&subject, "close-on-exec changed");
	if ((fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) != (O_RDONLY | O_NONBLOCK))
		subject_fail(&subject, "reader: flags %#o", fcntl(reader, F_GETFL));
	if (lseek(twin, 0, SEEK_CUR) != 4321 || lseek(reader, 0, SEEK_CUR) != 99)
		subject_fail(&subject, "positions changed");

	if (lseek(twin, 8, SEEK_SET) != 8 || lseek(shared, 0, SEEK_CUR) != 8)
		subject_fail(&subject, "twins don't share their position any more");
	if (pwrite(shared, "w", 1, PART * SMAPS_PAGE_BYTES) != 1 || part[0] != 'w' ||
	    whole[PART * SMAPS_PAGE_BYTES] != 'w')
		subject_fail(&subject, "the mappings are of something else");
	writable[0] = 'f';
	if (mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) != MAP_FAILED)
		subject_fail(&subject, "the seal against writable mappings is not in force");
	common[2 * SMAPS_PAGE_BYTES] = 'c';
	common[3 * SMAPS_PAGE_BYTES] = 'c';
	if (own[2 * SMAPS_PAGE_BYTES] != 'o' || own[3 * SMAPS_PAGE_BYTES] != 'c')
		subject_fail(&subject, "the private mapping shows %c%c", own[2 * SMAPS_PAGE_BYTES],
		             own[3 * SMAPS_PAGE_BYTES]);
	return subject_pass(&subject);
}
