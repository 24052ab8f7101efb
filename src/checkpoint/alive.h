/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Does a process live on whose maker or tracer has just died?
 *
 * What /proc shows can't tell: one that has been sent SIGKILL (PTRACE_O_EXITKILL) looks like any other until it notices,
 * and the locks of a dying tracer are free before it sends that: do_exit() of Linux. So it is proved: a process that can
 * be frozen and thawed, or that stands in a group stop, isn't about to die.
 *
 * One that lives behind build_outlive() stands still, in a group stop, and waits for what its maker had left to do. So does a
 * tree: its root is the first that lives, and no process before its parent, so all that live are found by their parents.
 */
#pragma once

#include "network/lock.h"
#include "util/error.h"

/* Waits up to wait_ms for a tracer that holds it to go. One that runs is frozen for a moment. */
MUST_USE struct error *alive_prove(const struct lock_holder *process, unsigned wait_ms, bool *ret_is_alive);

struct alive_tree {
	struct lock_holder root;
	size_t count;         /* of its processes, when they were made */
	const pid_t *stopped; /* borrowed: those that are to stay stopped */
	size_t stopped_count;
};

/* Do all of them live? Where only some do, since its maker died before all could, they are ended. Waits up to wait_ms for
 * each. */
MUST_USE struct error *alive_prove_tree(const struct alive_tree *tree, unsigned wait_ms, bool *ret_is_alive);

/* Its connections work again, and its processes go on, but for those that are to stay as they are. Everything is tried; the
 * error tells what failed. */
MUST_USE struct error *alive_go_on(const struct alive_tree *tree);
