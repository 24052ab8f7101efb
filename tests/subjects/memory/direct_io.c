/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memory that a disk writes: reads from a file with O_DIRECT that go on while the program is carried, by one thread with
 * a descriptor that stays, and by one that opens it anew for each read. The trap: what a device writes into a page that
 * was pinned beforehand is told by no write-protection. So a reader whose memory has been write-protected in the middle of
 * a read never reads again: another round would mend it. The first pages, which are sent first, are written last. The file is where a disk is: the runner's folder is in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "subject.h"

/* One read fills the disk's queue, so that all its pages are pinned long before the last of them is written. */
enum {
	READ_BYTES = 32 << 20,
	WORDS = READ_BYTES / 8,
	PIECE_BYTES = 1 << 20,
	PIECES = READ_BYTES / PIECE_BYTES,
	PAGE_BYTES = 4096,
	BLOCKS = 2,
	READERS = 2,
	PAUSE_US = 1000,
};

struct reader {
	pthread_t thread;
	const struct subject *subject;
	const char *path;
	bool opens_anew;
	int fd;
	uint64_t *words;
	int block; /* which words hold, the last piece first */
	volatile unsigned *probe;
	atomic_bool *is_over;
};

/* Word number index of a block: no two are the same. */
static uint64_t word_at(int block, size_t index)
{
	return (uint64_t)(block + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ index * UINT64_C(0xff51afd7ed558ccd);
}

static void make_file(const struct subject *subject, char *path)
{
	static uint64_t words[WORDS];
	struct statfs system;
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0 || fstatfs(fd, &system) < 0)
		subject_fail(subject, "%s: errno %d", path, errno);
	if (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC) {
		unlink(path);
		subject_skip(subject, "%s is no disk", path);
	}

	for (int block = 0; block < BLOCKS; block++) {
		for (size_t i = 0; i < WORDS; i++)
			words[i] = word_at(block, i);
		if (write(fd, words, sizeof(words)) != sizeof(words))
			subject_fail(subject, "write of %s: errno %d", path, errno);
	}
	memset(words, 0, sizeof(words));
	madvise(words, sizeof(words), MADV_DONTNEED);
	if (fsync(fd) < 0 || close(fd) < 0)
		subject_fail(subject, "fsync of %s: errno %d", path, errno);
}

static int open_directly(const struct reader *reader)
{
	int fd = open(reader->path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		subject_fail(reader->subject, "open with O_DIRECT: errno %d", errno);
	return fd;
}

static void read_block(struct reader *reader, int block)
{
	int fd = reader->opens_anew ? open_directly(reader) : reader->fd;
	struct iovec pieces[PIECES];

	for (size_t i = 0; i < PIECES; i++)
		pieces[i] = (struct iovec){(char *)reader->words + (PIECES - 1 - i) * PIECE_BYTES, PIECE_BYTES};
	if (preadv(fd, pieces, PIECES, (off_t)block * READ_BYTES) != READ_BYTES)
		subject_fail(reader->subject, "read of block %d: errno %d", block, errno);
	reader->block = block;
	if (reader->opens_anew)
		close(fd);
}

/* Of all memory at once: told by the fault that a write to a page of the thread's own makes then. */
static bool was_protected(const struct reader *reader)
{
	struct rusage before;
	struct rusage after;

	getrusage(RUSAGE_THREAD, &before);
	*reader->probe += 1;
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt != before.ru_minflt;
}

static void *read_on(void *data)
{
	struct reader *reader = data;
	unsigned protections = 0;

	/* The first one comes while the program stands still. */
	do {
		usleep(PAUSE_US);
		(void)was_protected(reader);
		read_block(reader, (reader->block + 1) % BLOCKS);
		protections += was_protected(reader);
	} while (protections < 2 && !atomic_load(reader->is_over));
	return NULL;
}

static void start(struct reader *reader)
{
	reader->fd = reader->opens_anew ? -1 : open_directly(reader);
	reader->probe = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reader->words = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reader->words == MAP_FAILED || reader->probe == MAP_FAILED)
		subject_fail(reader->subject, "mmap: errno %d", errno);
	read_block(reader, 0);
	if (pthread_create(&reader->thread, NULL, read_on, reader) != 0)
		subject_fail(reader->subject, "pthread_create");
}

static void check(const struct reader *reader)
{
	enum { WORDS_OF_PIECE = WORDS / PIECES };

	for (size_t i = 0; i < WORDS; i++) {
		size_t piece = PIECES - 1 - i / WORDS_OF_PIECE;

		if (reader->words[i] != word_at(reader->block, piece * WORDS_OF_PIECE + i % WORDS_OF_PIECE))
			subject_fail(reader->subject, "reader %d, word %zu: not of block %d", reader->opens_anew, i,
			             reader->block);
	}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	static struct reader readers[READERS];
	atomic_bool is_over = false;
	char path[] = "/var/tmp/godwit-direct-io-XXXXXX";

	make_file(&subject, path);
	for (int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.subject = &subject, .path = path, .opens_anew = i, .is_over = &is_over};
		start(&readers[i]);
	}
	subject_ready(&subject);
	atomic_store(&is_over, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i].thread, NULL);
	unlink(path);
	for (int i = 0; i < READERS; i++)
		check(&readers[i]);
	return subject_pass(&subject);
}
