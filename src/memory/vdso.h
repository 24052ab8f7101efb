/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The vDSO of a task that is built, and the data pages before it: the kernel put them somewhere, the program has the
 * addresses of its own in many places. */
#pragma once

#include "godwit-memory.pb-c.h"
#include "memory/areas.h"
#include "mm.pb-c.h"
#include "task/process.h"

/* What code a process has, but for the room at its end, which remote calls use. The process may run. */
MUST_USE struct error *vdso_hash(pid_t pid, const struct areas *areas, uint64_t *ret_hash);

/* Moves them to where mm has them. An error if this kernel's have other sizes or, if extra tells, another code: the
 * program's is then that of another kernel. */
MUST_USE struct error *vdso_move(struct process *task, const MmEntry *mm, const MemoryExtraEntry *extra,
                                 struct procfs_range *ret_vdso);

/* Is the code what the program was saved with? All but the room at its end, which remote calls use. */
MUST_USE struct error *vdso_compare(const struct process *task, const struct procfs_range *vdso, uint64_t address,
                                    const void *bytes, size_t size_bytes);
