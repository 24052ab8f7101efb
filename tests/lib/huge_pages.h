/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Huge pages for subjects. The system is told to make them when they are asked for (vm.nr_overcommit_hugepages): that costs
 * nothing otherwise.
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HUGE_BYTES = 2 << 20, HUGE_PAGES_WANTED = 512 };

static inline void huge_pages_allow(void)
{
	const char *pool = "/proc/sys/vm/nr_overcommit_hugepages";
	char text[32] = "0";
	int fd = open(pool, O_RDWR | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0 || atol(text) >= HUGE_PAGES_WANTED)
		return;
	snprintf(text, sizeof(text), "%d", HUGE_PAGES_WANTED);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		return; /* then mmap(2) will say so */
	close(fd);
}
