/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * NUMA policies of areas and of shared memory, while the thread has one, too, which is that of all other areas. With one
 * node all of them come to the same, but the kernel still tells which was set.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "smaps.h"

enum { SIZE = 16 * SMAPS_PAGE_BYTES, MAXNODE = 1025, WORDS = 16 };

struct policy {
	int mode;
	unsigned long nodes[WORDS];
};

static const struct policy none = {.mode = MPOL_DEFAULT};
static const struct policy bound = {.mode = MPOL_BIND | MPOL_F_STATIC_NODES, .nodes = {1}};
static const struct policy preferred = {.mode = MPOL_PREFERRED, .nodes = {1}};
static const struct policy interleaved = {.mode = MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, .nodes = {1}};
static const struct policy local = {.mode = MPOL_LOCAL};

static void check(const struct subject *subject, const char *what, const void *at, const struct policy *expected)
{
	struct policy seen = {0};

	if (syscall(SYS_get_mempolicy, &seen.mode, seen.nodes, MAXNODE, at, at ? MPOL_F_ADDR : 0) < 0)
		subject_fail(subject, "%s: get_mempolicy: errno %d", what, errno);
	if (seen.mode != expected->mode || seen.nodes[0] != expected->nodes[0])
		subject_fail(subject, "%s: policy %#x of nodes %#lx, not %#x of %#lx", what, seen.mode, seen.nodes[0],
		             expected->mode, expected->nodes[0]);
}

static char *map(const struct subject *subject, int flags, const struct policy *policy)
{
	/* Apart from each other, so that no two become one. */
	char *room = mmap(NULL, SIZE * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = mmap(room, SIZE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (policy->mode != MPOL_DEFAULT && syscall(SYS_mbind, at, SIZE, policy->mode, policy->nodes, MAXNODE, 0) < 0)
		subject_skip(subject, "mbind: errno %d (a kernel without NUMA)", errno);
	pages_write(at, 0, 4, 9);
	return at;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char *at_bound = map(&subject, MAP_PRIVATE, &bound);
	char *at_preferred = map(&subject, MAP_PRIVATE, &preferred);
	char *at_local = map(&subject, MAP_PRIVATE, &local);
	char *at_shared = map(&subject, MAP_SHARED, &interleaved);
	char *at_none = map(&subject, MAP_PRIVATE, &none);

	syscall(SYS_set_mempolicy, bound.mode, bound.nodes, MAXNODE);

	subject_ready(&subject);

	check(&subject, "bound", at_bound, &bound);
	check(&subject, "preferred", at_preferred, &preferred);
	check(&subject, "local", at_local, &local);
	check(&subject, "shared", at_shared, &interleaved);
	check(&subject, "without one", at_none, &none);
	pages_check(&subject, "bound", at_bound, 0, 4, 9);
	pages_check(&subject, "shared", at_shared, 0, 4, 9);
	return subject_pass(&subject);
}
