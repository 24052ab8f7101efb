/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Attaching segments of System V shared memory in a task that is built: shmat(2).
 *
 * A segment can only be attached as a whole, and the program may have unmapped parts of it, or moved them. So it is
 * attached where there is room, and the parts are moved to where they belong (mremap(2)). Parts of one attachment come
 * from one call, or shmdt(2) would miss some: it looks for those that are the same open file.
 */
#pragma once

#include "mm.pb-c.h"
#include "task/process.h"
#include "util/ranges.h"

/* Attaches what of mm isn't in mapped, and adds it to that. The segments are there, by their ids. */
MUST_USE struct error *sysv_attach(struct process *task, const MmEntry *mm, struct ranges *mapped);
