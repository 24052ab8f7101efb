/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * calls-PID.godwit: system calls that the freeze has interrupted, in a process that is saved and in one that is built.
 *
 * A call with a deadline that is in the kernel's restart block is begun anew in the new thread, with the time that was
 * left; when building ends, the thread is interrupted in it, and so has such a block. The program goes on with that, and
 * its registers say nothing of it.
 */
#pragma once

#include "checkpoint/restore/build.h"
#include "task/process.h"

/* Puts those of all threads into the store. */
void interrupted_calls_save(const struct process *process, struct image_store *store);

/* The last thing that is done to a thread that is built; its registers are those of the image. */
MUST_USE struct error *interrupted_calls_begin(struct process *process, const struct image_store *store);
