/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Waiting for child processes that end soon (a database that writes a snapshot in the background), while the program runs.
 * One that has ended stays a child until the program has fetched its exit status (wait(2)): nobody else can do that for it.
 */
#pragma once

#include <stdint.h>

#include "task/process.h"
#include "util/error.h"

/* How long children are waited for, in all, however often. */
struct children_wait {
	pid_t pid;
	bool is_single; /* those that are still there then can't be carried */
	uint64_t left_ns;
	int stop_fd; /* borrowed: when it can be read nobody waits any more; -1: none */
};

/* A program that runs: has it any? */
bool children_are_there(pid_t pid);

/* Returns when the program has no children, or when there is no time left. True: it had some. */
bool children_wait(struct children_wait *wait);

/* One has come in the meantime: is there time to wait again? Each time costs a little of it, so that there is an end. */
bool children_again(struct children_wait *wait);

/* NULL, or which children it has. */
MUST_USE struct error *children_check(pid_t pid);

/* The same while it is parked, of all threads with one call. */
MUST_USE struct error *children_ask(struct process *process, bool *ret_are_there);
