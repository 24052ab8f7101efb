/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Where a restored task comes from: a bare clone of this process with the right PID, session and process group, and no
 * descriptor but one. It waits until it is adopted (process_adopt()) and everything else is replaced; if its maker dies
 * before, it ends.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/error.h"

struct nursery_request {
	pid_t pid;     /* also of the thread group leader: clone3(2), set_tid */
	pid_t session; /* 0: that of this process */
	pid_t group;   /* 0: that of this process */
	int kept_fd;   /* a pidfd of this process (pidfd_open(2)), which the task keeps … */
	int kept_as;   /* … under this number */
	int cgroup_fd; /* a folder of version 2: it is born in that control group, where that can be; -1: in ours */
	const int *cgroup_doors; /* it writes "0" to each of these, which moves it: cgroup_home_doors() */
	size_t cgroup_door_count;
	bool is_apart; /* it is made in a new PID namespace (pid_space_enter()): all numbers are of that one, and free */
	bool is_child; /* it becomes a child of this process; else an orphan, whose parent doesn't die */
};

/* That the parent of a dead holder of a PID may take to take note; some look once a second. */
enum { NURSERY_DEAD_MS = 5000 };

/* Nobody who lives has that PID or TID. */
bool nursery_may_become_free(pid_t pid);

/* If error says that a PID or TID is there already: who has it, and what to do. Consumes and returns error. */
MUST_USE struct error *nursery_name_holder(struct error *error, pid_t pid);

/* A session or group whose leader is dead gets one for a moment. */
MUST_USE struct error *nursery_clone(const struct nursery_request *request);
