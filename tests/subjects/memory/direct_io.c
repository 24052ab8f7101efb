/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memory that a disk writes: reads from a file with O_DIRECT that go on while the program is carried, by one thread with
 * a descriptor that stays, and by one that opens it anew for each read. The trap: what a device writes into a page that
 * was pinned beforehand is told by no write-protection. The file is where a disk is: the runner's folder is in memory.
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
#include <sys/vfs.h>

#include "subject.h"

/* One read fills the disk's queue, so that all its pages are pinned long before the last of them is written. */
enum { READ_BYTES = 32 << 20, WORDS = READ_BYTES / 8, BLOCKS = 2, READERS = 2, PAUSE_US = 40000 };

struct reader {
	pthread_t thread;
	const struct subject *subject;
	const char *path;
	bool opens_anew;
	int fd;
	uint64_t *words;
	int block; /* which words hold */
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

	if (pread(fd, reader->words, READ_BYTES, (off_t)block * READ_BYTES) != READ_BYTES)
		subject_fail(reader->subject, "read of block %d: errno %d", block, errno);
	reader->block = block;
	if (reader->opens_anew)
		close(fd);
}

/* The pauses are for the memory to be at rest at times, too: what is always written is never taken for unchanged. */
static void *read_on(void *data)
{
	struct reader *reader = data;

	while (!atomic_load(reader->is_over)) {
		read_block(reader, (reader->block + 1) % BLOCKS);
		usleep(PAUSE_US);
	}
	return NULL;
}

static void start(struct reader *reader)
{
	reader->fd = reader->opens_anew ? -1 : open_directly(reader);
	reader->words = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reader->words == MAP_FAILED)
		subject_fail(reader->subject, "mmap: errno %d", errno);
	read_block(reader, 0);
	if (pthread_create(&reader->thread, NULL, read_on, reader) != 0)
		subject_fail(reader->subject, "pthread_create");
}

static void check(const struct reader *reader)
{
	for (size_t i = 0; i < WORDS; i++)
		if (reader->words[i] != word_at(reader->block, i))
			subject_fail(reader->subject, "reader %d, word %zu: not of block %d", reader->opens_anew, i,
			             reader->block);
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
