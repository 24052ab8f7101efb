/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * An area of 8 TB with a page here and there, and 64 MB that were only read: what isn't there costs nothing, neither time
 * nor memory. What is in memory afterwards is what was, not more.
 */
#include <errno.h>

#include "smaps.h"

static const size_t size = (size_t)8 << 40;
static const size_t step = ((size_t)8 << 40) / 64 + 3 * 4096;
enum { READ_BYTES = 64 << 20, SLACK_KB = 4096 };

/* In kB. */
static long resident(void)
{
	static char status[8192];

	smaps_read_file("/proc/self/status", status, sizeof(status));
	return atol(strstr(status, "VmRSS:") + 6);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char *sparse = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *zeros = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char sum = 0;

	if (sparse == MAP_FAILED || zeros == MAP_FAILED)
		subject_fail(&subject, "set-up: errno %d", errno);
	for (size_t at = 0; at < size; at += step)
		pages_write(sparse + at, 0, 1, at);
	for (size_t i = 0; i < READ_BYTES; i += SMAPS_PAGE_BYTES)
		sum = (char)(sum + zeros[i]);
	long before = resident();

	subject_ready(&subject);

	long after = resident();
	if (after > before + SLACK_KB)
		subject_fail(&subject, "%ld kB in memory, which were %ld", after, before);
	for (size_t at = 0; at < size; at += step)
		pages_check(&subject, "sparse area", sparse + at, 0, 1, at);
	pages_check_zero(&subject, "sparse area", sparse + step / SMAPS_PAGE_BYTES / 2 * SMAPS_PAGE_BYTES, 0, 16);
	pages_check_zero(&subject, "never written", zeros, 0, READ_BYTES / SMAPS_PAGE_BYTES);
	return subject_pass(&subject);
}
