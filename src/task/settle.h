/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#pragma once

#include <sys/types.h>

#include "util/error.h"

/*
 * Waits until each system call that was under way in the process, and could let a device write into its memory, has
 * ended: read(2) and its like from a file open with O_DIRECT. What such a call wrote before is in memory then.
 *
 * Each thread that runs, or is in such a call, is stopped once for a moment (30 us), one after the other; a thread that
 * waits in any other call isn't touched. Writes that no call waits for (aio(7), io_uring(7)) are not covered.
 */
MUST_USE struct error *process_settle(pid_t pid);
