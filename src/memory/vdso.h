/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The vDSO of a task that is built, and the data pages before it: the kernel put them somewhere, the program has the
 * addresses of its own in many places.
 *
 * While the task is built, the kernel's are out of the way, and the code of the program's is collected as its pages come.
 * Is it the same, they are moved to where the program had its own. If not, the program's code becomes ordinary memory at
 * its place, with jumps into the kernel's (vdso_code.h), which stays where it is out of the way; the next move finds it
 * there. Its data pages are zeros then: what is still in the old code (a signal handler has interrupted it) finds that
 * there is no clock to read, and asks the kernel. The same is done where the kernel lets nobody move its own.
 */
#pragma once

#include <stdbool.h>

#include "mm.pb-c.h"
#include "task/process.h"

struct vdso;

/* Moves the kernel's out of the way of the areas of mm. task is borrowed until free. */
MUST_USE struct error *vdso_begin(struct process *task, const MmEntry *mm, struct vdso **ret_vdso);
void vdso_free(struct vdso *vdso);
DEFINE_OWNED(struct vdso *, vdso_free)
#define auto_vdso AUTO(vdso_free)

/* Is that the program's code? Then its pages go to vdso_fill(). */
bool vdso_has(const struct vdso *vdso, uint64_t address);
MUST_USE struct error *vdso_fill(struct vdso *vdso, uint64_t address, const void *bytes, size_t page_count);

/* All pages have come. */
MUST_USE struct error *vdso_finish(struct vdso *vdso);
