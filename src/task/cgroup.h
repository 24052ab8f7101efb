/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Control groups: out of those that somebody may end as a whole (systemd stops a unit, ssh's session is closed).
 *
 * A restored program gets a group of its own, godwit-PID, right below what is mounted, in every hierarchy of version 1
 * and in that of version 2: cgroups(7). Where a hierarchy has the controllers cpu or cpuset of version 1 it goes to the
 * top instead: a new group there may hold no real-time thread, or no thread at all, until somebody has given it a share.
 * Empty groups of programs that have ended are removed by the next one that is made.
 *
 * Moving a process makes the kernel wait for an RCU grace period for each hierarchy (2 to 20 ms, seen): never in a freeze.
 */
#pragma once

#include <sys/types.h>

#include "util/own.h"

struct cgroup_home;

/* Never NULL: where the kernel doesn't let it, the process stays where it is. */
struct cgroup_home *cgroup_home_new(pid_t pid);

/* Where it is now, for a log; the caller frees. */
char *cgroup_home_line(const struct cgroup_home *home);

/* The process has ended, and nothing of it shall stay. NULL does nothing. */
void cgroup_home_remove(const struct cgroup_home *home);

/* NULL does nothing; the groups stay. */
void cgroup_home_free(struct cgroup_home *home);
DEFINE_OWNED(struct cgroup_home *, cgroup_home_free)
#define auto_cgroup_home AUTO(cgroup_home_free)

/* This process goes to the top of version 2 and of systemd's hierarchy. Where it isn't allowed (a container whose top has
 * controllers for its children) it stays. */
void cgroup_leave(void);
