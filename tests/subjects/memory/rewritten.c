/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memory that a thread changes all the while: it writes pages here and there, some of them again and again, gives pages
 * back, maps and unmaps areas, moves and grows them. Each page says which version it is, and where that is noted is
 * memory too: whatever is old by one round shows.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "subject.h"

enum { PAGE_BYTES = 4096, AREAS = 8, PAGES = 1024, HOT_PAGES = 16 };

struct part {
	unsigned char *pages;
	uint64_t versions[PAGES]; /* 0: never written, or given back */
};

struct memory {
	const struct subject *subject;
	struct part parts[AREAS];
	uint64_t random, version;
	atomic_bool is_over;
};

/* xorshift */
static uint64_t next_random(struct memory *memory)
{
	memory->random ^= memory->random << 13;
	memory->random ^= memory->random >> 7;
	memory->random ^= memory->random << 17;
	return memory->random;
}

static unsigned char *map(const struct memory *memory)
{
	unsigned char *pages =
		mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		subject_fail(memory->subject, "mmap: errno %d", errno);
	return pages;
}

static void write_page(struct memory *memory, struct part *part, size_t page)
{
	uint64_t version = ++memory->version * UINT64_C(0x9e3779b97f4a7c15);

	part->versions[page] = version;
	memcpy(part->pages + page * PAGE_BYTES + 8 * (page % 512), &version, sizeof(version));
}

static void give_back(const struct memory *memory, struct part *part, size_t page)
{
	if (madvise(part->pages + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED) < 0)
		subject_fail(memory->subject, "madvise: errno %d", errno);
	part->versions[page] = 0;
}

static void map_anew(const struct memory *memory, struct part *part)
{
	munmap(part->pages, (size_t)PAGES * PAGE_BYTES);
	memset(part->versions, 0, sizeof(part->versions));
	part->pages = map(memory);
}

static void move(const struct memory *memory, struct part *part)
{
	unsigned char *to = map(memory);

	if (mremap(part->pages, (size_t)PAGES * PAGE_BYTES, (size_t)PAGES * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
	           to) != to)
		subject_fail(memory->subject, "mremap: errno %d", errno);
	part->pages = to;
}

static void change(struct memory *memory)
{
	uint64_t random = next_random(memory);
	struct part *part = &memory->parts[random % AREAS];
	size_t page = random / AREAS % PAGES;

	switch (random >> 50 & 1023) {
	case 0:
		map_anew(memory, part);
		break;
	case 1:
		move(memory, part);
		break;
	default:
		if (random >> 60 == 0)
			give_back(memory, part, page);
		else
			write_page(memory, part, random >> 60 < 8 ? page % HOT_PAGES : page);
	}
}

/* Pages that are left alone for a while are what is easily taken for unchanged. */
static void *change_on(void *data)
{
	struct memory *memory = data;

	for (unsigned i = 1; !atomic_load(&memory->is_over); i++) {
		change(memory);
		if (i % 64 == 0)
			usleep(1000);
	}
	return NULL;
}

static void check(const struct memory *memory)
{
	for (int i = 0; i < AREAS; i++)
		for (size_t page = 0; page < PAGES; page++) {
			const struct part *part = &memory->parts[i];
			uint64_t version;

			memcpy(&version, part->pages + page * PAGE_BYTES + 8 * (page % 512), sizeof(version));
			if (version != part->versions[page])
				subject_fail(memory->subject, "area %d, page %zu: %#llx, not %#llx", i, page,
				             (unsigned long long)version, (unsigned long long)part->versions[page]);
		}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	static struct memory memory;
	pthread_t thread;

	memory.subject = &subject;
	memory.random = 0x5eed;
	for (int i = 0; i < AREAS; i++) {
		memory.parts[i].pages = map(&memory);
		for (size_t page = 0; page < PAGES; page += 2)
			write_page(&memory, &memory.parts[i], page);
	}
	if (pthread_create(&thread, NULL, change_on, &memory) != 0)
		subject_fail(&subject, "pthread_create");
	subject_ready(&subject);
	atomic_store(&memory.is_over, true);
	pthread_join(thread, NULL);
	check(&memory);
	return subject_pass(&subject);
}
