/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The children of a process, and their children, as /proc tells: those that have ended and wait for their parent, too. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "util/own.h"

/* A list that is complete as long as the parents stand still, and as good as one can be while they run. */
struct descendants {
	struct descendant {
		pid_t pid;
		int parent; /* index; -1: of the first one */
	} * list;           /* owned */
	size_t count;
};

/* The process itself comes first, and parents before their children. A process that has gone meanwhile has none. */
void descendants_list(pid_t pid, struct descendants *ret_descendants);
/* Sends a signal to all of them, children first, and the process itself last. 0 or a negative errno of the last one. */
int descendants_signal(pid_t pid, int signal);

void descendants_free(struct descendants *descendants); /* what it points to */
#define auto_descendants __attribute__((cleanup(descendants_free)))
