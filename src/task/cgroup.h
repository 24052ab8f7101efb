/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Control groups: out of those that somebody may end as a whole (systemd stops a unit, ssh's session is closed).
 *
 * Where systemd runs, a restored program gets a transient scope of its own: scope.h. Else, and where systemd refuses, it
 * gets a group of its own, godwit-PID-RANDOM, right below what is mounted, in that of version 2 and in
 * each hierarchy of version 1 where this process isn't at the top: cgroups(7). Where such a one has the controllers cpu or
 * cpuset of version 1 it goes to the top: a new group there may hold no real-time thread, or no thread at all, until
 * somebody has given it a share. Empty groups of programs that have ended are removed when the next one is made: rmdir(2)
 * refuses those that somebody is in, or that have groups of their own.
 *
 * Moving a process makes the kernel wait for an RCU grace period for each hierarchy (2 to 20 ms, seen): never in a freeze,
 * and not where it can be avoided: clone3(2) makes a process right in its group of version 2, and one that has a single thread
 * waits for nothing if it moves itself by the file "tasks" of version 1 (seen: 0.1 ms; Linux 6.18).
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "util/own.h"

struct cgroup_home;

/* For a process that doesn't have to be there yet; its PID is for the name. Never NULL. */
struct cgroup_home *cgroup_home_new(pid_t pid);

/* Its group of version 2, for clone3(2), CLONE_INTO_CGROUP; borrowed. -1: none. */
int cgroup_home_fd(const struct cgroup_home *home);

/* Descriptors, borrowed: a new process of one thread that writes "0" to each is where it belongs in version 1. */
size_t cgroup_home_doors(const struct cgroup_home *home, const int **ret_doors);

/* Moves it to all the groups that it isn't in yet; where the kernel doesn't let us, it stays where it is. companion is
 * moved along; 0: none. */
void cgroup_home_enter(struct cgroup_home *home, pid_t pid, pid_t companion);

/* Where it is now, for a log; the caller frees. */
char *cgroup_home_line(const struct cgroup_home *home);

/* Hierarchies where it stays in our group, and why; borrowed. NULL: there is none. */
const char *cgroup_home_refused(const struct cgroup_home *home);

/* Why systemd, which runs here, has made no scope for it; borrowed. NULL: it wasn't asked, or it has. */
const char *cgroup_home_no_scope(const struct cgroup_home *home);

/* The process has ended, and nothing of it shall stay. NULL does nothing. */
void cgroup_home_remove(const struct cgroup_home *home);

/* NULL does nothing; the groups stay. */
void cgroup_home_free(struct cgroup_home *home);
DEFINE_OWNED(struct cgroup_home *, cgroup_home_free)
#define auto_cgroup_home AUTO(cgroup_home_free)

/* This process goes to the top of version 2 and of systemd's hierarchy, soon after the return. Where it isn't allowed (a
 * container whose top has controllers for its children) it stays. */
void cgroup_leave(void);
