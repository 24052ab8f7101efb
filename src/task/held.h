/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Batches in a thread that isn't parked, because it is under seccomp(2): seccomp.h says why.
 *
 * The thread makes one call after the other through a trampoline in the stub's pages, which looks whether we live just
 * before the call, and waits for us behind it, running, until we stop it again. So it stands in a ptrace stop at all other
 * times, and its filter never sees a call that we didn't live to make.
 */
#pragma once

#include "task/process.h"

/* Does what stub_run() would do with the batch that is in the thread's control pages. */
MUST_USE struct error *held_run(struct process *process, struct thread *thread);

/* Makes a stopped process end by itself: exit_group(2). */
MUST_USE struct error *held_exit(struct process *process, int status);
