/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "memory/maps.h"
#include "util/alloc.h"

/* ---- maps ---- */

/* By hand: a program may have 65,530 areas, and they are read while it stands still. */
static bool read_number(const char **at, unsigned base, uint64_t *ret_value)
{
	const char *begin = *at;
	uint64_t value = 0;

	for (;; ++*at) {
		unsigned char c = (unsigned char)**at;
		unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
		                 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10U
		                                        : 99U;

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
			return false;
	}
	*ret_value = value;
	return *at > begin;
}

static bool skip(const char **at, char expected)
{
	if (**at != expected)
		return false;
	++*at;
	return true;
}

/* "rw-p" */
static bool read_permissions(const char **at, VmaEntry *entry)
{
	const char *text = *at;

	if (strnlen(text, 4) < 4)
		return false;
	entry->prot = (text[0] == 'r' ? PROT_READ : 0U) | (text[1] == 'w' ? PROT_WRITE : 0U) |
	              (text[2] == 'x' ? PROT_EXEC : 0U);
	entry->flags = text[3] == 's' ? MAP_SHARED : MAP_PRIVATE;
	*at += 4;
	return true;
}

int maps_parse_line(const char *line, struct area *ret_area)
{
	VmaEntry entry = VMA_ENTRY__INIT;
	const char *at = line;
	uint64_t major_number;
	uint64_t minor_number;
	uint64_t inode;

	if (!read_number(&at, 16, &entry.start) || !skip(&at, '-') || !read_number(&at, 16, &entry.end) ||
	    !skip(&at, ' ') || !read_permissions(&at, &entry) || !skip(&at, ' ') ||
	    !read_number(&at, 16, &entry.pgoff) || !skip(&at, ' ') || !read_number(&at, 16, &major_number) ||
	    !skip(&at, ':') || !read_number(&at, 16, &minor_number) || !skip(&at, ' ') || !read_number(&at, 10, &inode))
		return -EINVAL;
	if (entry.start >= entry.end || major_number > UINT32_MAX || minor_number > UINT32_MAX)
		return -EINVAL;
	at += strspn(at, " ");
	entry.fd = -1;
	*ret_area = (struct area){
		.entry = entry,
		.device = makedev((unsigned)major_number, (unsigned)minor_number),
		.inode = inode,
		.vma_start = entry.start,
		.vma_end = entry.end,
		.path = *at ? xformat("%s", at) : NULL,
	};
	return 0;
}

/* ---- smaps ---- */

/* What a two-letter word of VmFlags means for the image. */
struct vm_flag {
	char name[3];
	uint32_t flags;
	int advice; /* -1: none */
	enum area_trouble trouble;
	uint32_t extra;
};

static const struct vm_flag vm_flags[] = {
	{"gd", MAP_GROWSDOWN, -1, AREA_TROUBLE_NONE, 0},
	{"nr", MAP_NORESERVE, -1, AREA_TROUBLE_NONE, 0},
	{"ht", MAP_HUGETLB, -1, AREA_TROUBLE_NONE, 0},
	{"lo", MAP_LOCKED, -1, AREA_TROUBLE_NONE, 0},
	{"lf", MAP_NONBLOCK, -1, AREA_TROUBLE_NONE, 0},
	{"rr", 0, MADV_RANDOM, AREA_TROUBLE_NONE, 0},
	{"sr", 0, MADV_SEQUENTIAL, AREA_TROUBLE_NONE, 0},
	{"dc", 0, MADV_DONTFORK, AREA_TROUBLE_NONE, 0},
	{"mg", 0, MADV_MERGEABLE, AREA_TROUBLE_NONE, 0},
	{"hg", 0, MADV_HUGEPAGE, AREA_TROUBLE_NONE, 0},
	{"nh", 0, MADV_NOHUGEPAGE, AREA_TROUBLE_NONE, 0},
	{"dd", 0, MADV_DONTDUMP, AREA_TROUBLE_NONE, 0},
	{"wf", 0, MADV_WIPEONFORK, AREA_TROUBLE_NONE, 0},
	{"io", 0, -1, AREA_TROUBLE_DEVICE, 0},
	{"pf", 0, -1, AREA_TROUBLE_DEVICE, 0},
	{"mm", 0, -1, AREA_TROUBLE_DEVICE, 0},
	{"ss", 0, -1, AREA_TROUBLE_SHADOW_STACK, 0},
	{"um", 0, -1, AREA_TROUBLE_USERFAULTFD, 0},
	{"ui", 0, -1, AREA_TROUBLE_USERFAULTFD, 0},
	{"sl", 0, -1, AREA_TROUBLE_NONE, AREA_SEALED},
	{"dp", 0, -1, AREA_TROUBLE_NONE, AREA_DROPPABLE},
};

static void add_vm_flag(struct area *area, const char *name)
{
	if (memcmp(name, "mw", 2) == 0)
		area->may_write = true;
	for (size_t i = 0; i < sizeof(vm_flags) / sizeof(vm_flags[0]); i++) {
		const struct vm_flag *known = &vm_flags[i];

		if (memcmp(known->name, name, 2) != 0)
			continue;
		area->entry.flags |= known->flags;
		if (known->advice >= 0) {
			area->entry.has_madv = true;
			area->entry.madv |= UINT64_C(1) << known->advice;
		}
		area->extra |= known->extra;
		if (known->trouble)
			area->trouble = known->trouble;
		return;
	}
}

static void add_vm_flags(struct area *area, const char *words)
{
	for (const char *word = words + strspn(words, " "); strnlen(word, 2) == 2; word += strspn(word, " ")) {
		add_vm_flag(area, word);
		word += 2;
	}
}

static const char *value_of(const char *line, const char *name)
{
	size_t length = strlen(name);

	return strncmp(line, name, length) == 0 ? line + length : NULL;
}

bool smaps_is_area(const char *line)
{
	return (*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f');
}

/* The kernel gives a key of its own to memory that may only be executed: pkeys(7). */
static void add_key(struct area *area, const char *key)
{
	if (strtoul(key, NULL, 10) != 0 && area->entry.prot != PROT_EXEC)
		area->trouble = AREA_TROUBLE_KEY;
}

static void add_page_size(struct area *area, const char *size)
{
	unsigned long page_bytes = strtoul(size, NULL, 10) * 1024;

	if (page_bytes > 4096)
		area->entry.flags |= (uint32_t)__builtin_ctzl(page_bytes) << MAP_HUGE_SHIFT;
}

void smaps_parse_attribute(const char *line, struct area *area)
{
	static const struct {
		const char *name;
		void (*add)(struct area *area, const char *value);
	} attributes[] = {
		{"VmFlags:", add_vm_flags},
		{"ProtectionKey:", add_key},
		/* It comes before VmFlags, and is 4 kB for all but hugetlb areas. */
		{"KernelPageSize:", add_page_size},
	};

	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		const char *value = value_of(line, attributes[i].name);

		if (value) {
			attributes[i].add(area, value);
			return;
		}
	}
}
