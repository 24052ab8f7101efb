/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * LD_PRELOAD=seal_vdso.so PROGRAM: runs a program as a kernel would that seals its own mappings
 * (CONFIG_MSEAL_SYSTEM_MAPPINGS, Linux 6.16): neither it nor its children can move them. Ends it where mseal(2) is missing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SYS_MSEAL = 462, MISSING = 77 };

__attribute__((constructor)) static void seal(void)
{
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start;
		unsigned long end;

		if ((strstr(line, "[vdso]") || strstr(line, "[vvar")) && sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    syscall(SYS_MSEAL, start, end - start, 0) < 0)
			_exit(MISSING);
	}
	if (maps)
		fclose(maps);
}
