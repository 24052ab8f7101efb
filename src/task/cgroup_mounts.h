/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Which hierarchies of control groups are mounted here, and where in them this process is: cgroups(7). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { CGROUP_HIERARCHIES_MAX = 32 /* there are about 15 controllers */ };

/* A mounted hierarchy; pieces of the texts below. */
struct cgroup_hierarchy {
	const char *device; /* tells hierarchies apart that are mounted twice */
	const char *root;   /* what of it is mounted, as paths in proc_pid_cgroup(5) */
	const char *top;    /* a folder: where that is */
	const char *options;
	const char *own; /* where this process is, a path as root; NULL: unknown */
	bool is_unified; /* version 2 */
	bool is_left;    /* this process is at the top already */
};

struct cgroup_mounts {
	char *mountinfo; /* owned: proc_pid_mountinfo(5) */
	char *cgroups;   /* owned: proc_pid_cgroup(5) */
	struct cgroup_hierarchy list[CGROUP_HIERARCHIES_MAX];
	size_t count;
};

/* Each hierarchy once; none where /proc can't be read. */
void cgroup_mounts_read(struct cgroup_mounts *mounts);
void cgroup_mounts_free(struct cgroup_mounts *mounts); /* what it points to */

/* Where in a hierarchy the process is of which this is proc_pid_cgroup(5): borrowed, ends with a line feed. NULL: nowhere. */
const char *cgroup_path(const struct cgroup_hierarchy *hierarchy, const char *cgroups);

/* Is it a hierarchy of version 1 with this controller (or "name=…")? */
bool cgroup_has(const struct cgroup_hierarchy *hierarchy, const char *option);
