/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Where a program's code, heap, stack, arguments and environment are, as the kernel knows them: what ps(1) shows, where
 * brk(2) goes on, the auxiliary vector, the executable. The arguments have been written over, as daemons do.
 */
#include <errno.h>
#include <sys/prctl.h>

#include "smaps.h"

static const char *const files[] = {"/proc/self/auxv", "/proc/self/cmdline", "/proc/self/environ"};
enum { FILES = sizeof(files) / sizeof(files[0]), FILE_BYTES_MAX = 16384 };

struct layout {
	char text[FILES][FILE_BYTES_MAX];
	size_t size[FILES];
	char numbers[1024]; /* fields 26 to 28 and 45 to 51 of proc_pid_stat(5) */
	char exe[4096];
	void *brk;
};

/* The fields of stat from number first to last, as text. */
static char *copy_fields(char *to, const char *stat, int first, int last)
{
	const char *at = strrchr(stat, ')') + 2;

	for (int number = 3; *at; number++) {
		size_t length = strcspn(at, " \n") + 1;

		if (number >= first && number <= last)
			to += sprintf(to, "%d: %.*s", number, (int)length, at);
		at += length;
	}
	return to;
}

static void look(struct layout *layout)
{
	char stat[2048];

	memset(layout, 0, sizeof(*layout));
	for (size_t i = 0; i < FILES; i++)
		layout->size[i] = smaps_read_file(files[i], layout->text[i], FILE_BYTES_MAX);
	smaps_read_file("/proc/self/stat", stat, sizeof(stat));
	copy_fields(copy_fields(layout->numbers, stat, 26, 28), stat, 45, 51);
	if (readlink("/proc/self/exe", layout->exe, sizeof(layout->exe) - 1) < 0)
		abort();
	layout->brk = sbrk(0);
}

static struct layout before, after;

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	static char dir[4096];
	void *volatile first = malloc(1);               /* stdio will need the heap: its part of it comes first */
	char *heap = sbrk(64 * SMAPS_PAGE_BYTES + 123); /* not at the border of a page */

	free(first);
	snprintf(dir, sizeof(dir), "%s", subject.dir);
	subject.dir = dir;
	if (heap == (void *)-1)
		subject_fail(&subject, "sbrk: errno %d", errno);
	memset(argv[1], 'x', strlen(argv[1]));
	memcpy(argv[0], "renamed", 7);
	heap += SMAPS_PAGE_BYTES - (uintptr_t)heap % SMAPS_PAGE_BYTES;
	pages_write(heap, 0, 32, 7);
	look(&before);

	subject_ready(&subject);

	look(&after);
	for (size_t i = 0; i < FILES; i++)
		if (before.size[i] != after.size[i] || memcmp(before.text[i], after.text[i], before.size[i]) != 0)
			subject_fail(&subject, "%s: %zu bytes, which were %zu, or others", files[i], after.size[i],
			             before.size[i]);
	if (strcmp(before.numbers, after.numbers) != 0)
		subject_fail(&subject, "stat: %s, which was %s", after.numbers, before.numbers);
	if (strcmp(before.exe, after.exe) != 0)
		subject_fail(&subject, "exe: %s, which was %s", after.exe, before.exe);
	if (before.brk != after.brk)
		subject_fail(&subject, "brk: %p, which was %p", after.brk, before.brk);
	pages_check(&subject, "heap", heap, 0, 32, 7);
	if (sbrk(SMAPS_PAGE_BYTES) != before.brk)
		subject_fail(&subject, "the heap doesn't grow from where it was");
	return subject_pass(&subject);
}
