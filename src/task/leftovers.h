/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The stub's pages that a killed godwit left in a process: its threads leave the stub by themselves, but a thread can't
 * unmap the code that it runs.
 */
#pragma once

#include <sys/types.h>

#include "task/keeper.h"
#include "util/error.h"

/* Finds and unmaps them in a process and its descendants. Stops each for that, about as long as a freeze takes, only where
 * there are any. Pages of a godwit that lives are left alone. */
MUST_USE struct error *leftovers_clear(pid_t pid);

/* The same for a process that is held, stopped outside of the stub. */
struct process;
MUST_USE struct error *leftovers_clear_held(struct process *process);

/* Has the keeper do so when we die. */
MUST_USE struct error *leftovers_tell_keeper(struct keeper *keeper, pid_t pid);

/* Lets threads go that a killed godwit has told to stay in its stub (process_set_stay()), and clears what it left, in a
 * process and its descendants. */
MUST_USE struct error *leftovers_release(pid_t pid);

/* Ends the process and its descendants instead: it by exit_group(2) with that status, which its parent sees, or by SIGKILL (-1), them by
 * SIGKILL; and waits until all have gone. */
MUST_USE struct error *leftovers_end(pid_t pid, int status);
