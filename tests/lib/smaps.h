/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a subject sees of its own memory: its areas as /proc/self/smaps has them, before and after it was carried, and
 * pages whose words say where they belong.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "subject.h"

enum { SMAPS_BYTES_MAX = 1 << 20, SMAPS_PAGE_BYTES = 4096 };

/* ---- Areas ---- */

/* Room for the looks, mapped before the first one: the heap would grow meanwhile, and be another area. */
struct smaps {
	char text[SMAPS_BYTES_MAX];
	char before[SMAPS_BYTES_MAX], after[SMAPS_BYTES_MAX];
};

static inline struct smaps *smaps_new(void)
{
	struct smaps *smaps = mmap(NULL, sizeof(*smaps), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (smaps == MAP_FAILED)
		abort();
	void *volatile heap = malloc(1); /* stdio will need the heap: let it be there */
	free(heap);
	return smaps;
}

static inline size_t smaps_read_file(const char *path, char *room, size_t room_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0;

	for (ssize_t n; (n = read(fd, room + size, room_bytes - 1 - size)) > 0;)
		size += (size_t)n;
	close(fd);
	room[size] = '\0';
	return size;
}

/* Is this word of VmFlags about what the program asked for? "sd" is soft-dirty, "ac" about accounting; "uw" and "um"
 * are those who track it. */
static inline bool smaps_is_flag(const char *word)
{
	static const char *const others[] = {"sd", "ac", "uw", "um", "nl"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (memcmp(word, others[i], 2) == 0)
			return false;
	return true;
}

/* The line of the area itself, without device and inode: those of shared memory are other ones over there. */
static inline char *smaps_copy_area(char *to, const char *line)
{
	char range[64], permissions[8], offset[32], device[32], inode[32];
	int path = 0;

	if (sscanf(line, "%63s %7s %31s %31s %31s%n", range, permissions, offset, device, inode, &path) < 5)
		abort();
	path += (int)strspn(line + path, " ");
	return to + sprintf(to, "%s %s %s %.*s", range, permissions, strcmp(inode, "0") ? offset : "-",
	                    (int)strcspn(line + path, "\n"), line + path);
}

static inline char *smaps_copy_flags(char *to, const char *line)
{
	to = stpcpy(to, ":");
	for (const char *word = line + strcspn(line, ":") + 1; *word && *word != '\n'; word++)
		if (*word != ' ') {
			if (smaps_is_flag(word))
				to += sprintf(to, " %.2s", word);
			word++;
		}
	return stpcpy(to, "\n");
}

/* All areas: "START-END PERMISSIONS OFFSET NAME: FLAGS", one a line. */
static inline void smaps_take(struct smaps *smaps, char view[SMAPS_BYTES_MAX])
{
	smaps_read_file("/proc/self/smaps", smaps->text, SMAPS_BYTES_MAX);
	for (const char *line = smaps->text; *line; line += strcspn(line, "\n") + 1) {
		if ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f'))
			view = smaps_copy_area(view, line);
		else if (strncmp(line, "VmFlags:", 8) == 0)
			view = smaps_copy_flags(view, line);
	}
	*view = '\0';
}

/* Before subject_ready(). */
static inline void smaps_before(struct smaps *smaps)
{
	smaps_take(smaps, smaps->before);
}

/* After it: are all areas as they were, each with its protection, name and flags? */
static inline void smaps_check(struct smaps *smaps, const struct subject *subject)
{
	const char *before = smaps->before;
	const char *after = smaps->after;

	smaps_take(smaps, smaps->after);
	while (*before || *after) {
		size_t length = strcspn(before, "\n");
		size_t length_after = strcspn(after, "\n");

		if (length != length_after || memcmp(before, after, length) != 0)
			subject_fail(subject, "area \"%.*s\", which was \"%.*s\"", (int)length_after, after,
			             (int)length, before);
		before += length + 1;
		after += length + 1;
	}
}

/* ---- Pages ---- */

/* A word of a page that nothing else makes. */
static inline uint64_t pages_word(uint64_t seed, size_t page)
{
	return (seed + page + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline void pages_write(void *at, size_t first, size_t count, uint64_t seed)
{
	for (size_t i = first; i < first + count; i++) {
		uint64_t *page = (uint64_t *)((char *)at + i * SMAPS_PAGE_BYTES);

		page[0] = pages_word(seed, i);
		page[SMAPS_PAGE_BYTES / 8 - 1] = ~page[0];
	}
}

static inline void pages_check(const struct subject *subject, const char *what, const void *at, size_t first,
                               size_t count, uint64_t seed)
{
	for (size_t i = first; i < first + count; i++) {
		const uint64_t *page = (const uint64_t *)(const void *)((const char *)at + i * SMAPS_PAGE_BYTES);

		if (page[0] != pages_word(seed, i) || page[SMAPS_PAGE_BYTES / 8 - 1] != ~pages_word(seed, i))
			subject_fail(subject, "%s: page %zu has changed (%#llx)", what, i, (unsigned long long)page[0]);
	}
}

static inline void pages_check_zero(const struct subject *subject, const char *what, const void *at, size_t first,
                                    size_t count)
{
	const char *from = (const char *)at + first * SMAPS_PAGE_BYTES;

	for (size_t i = 0; i < count * SMAPS_PAGE_BYTES; i++)
		if (from[i])
			subject_fail(subject, "%s: byte %zu is not zero", what, first * SMAPS_PAGE_BYTES + i);
}
