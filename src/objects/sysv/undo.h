/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What SEM_UNDO of semop(2) has to undo when a process ends: a number for each semaphore.
 *
 * The kernel shows it to nobody, but it is bounded: an operation that would bring it out of its bounds fails with ERANGE. So
 * operations are tried in the task that can't succeed, since the last of them would have to wait (EAGAIN), and that would
 * change the number by so much before: from which of both errors comes at what size the number follows. A call that fails
 * changes nothing, and wakes nobody.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "task/process.h"

/* May the task have anything to undo? Every process that has had threads has a list, an empty one. */
bool undo_is_possible(pid_t tid);

/* Do two tasks have one list? clone(2), CLONE_SYSVSEM. */
bool undo_is_common(pid_t tid, pid_t other);

/* The numbers of a parked process for a set with these values; ret_numbers has room for count. Frozen. */
MUST_USE struct error *undo_read(struct process *process, uint32_t id, const unsigned short *values, size_t count,
                                 int32_t *ret_numbers, bool *ret_is_any);

/* Gives it a number; the value stays what it is. */
MUST_USE struct error *undo_set(struct process *process, uint32_t id, size_t semaphore, unsigned short value,
                                int32_t number);
