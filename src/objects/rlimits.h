/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Resource limits while the program runs: state/rlimit.c has the rest. */
#pragma once

#include <sys/types.h>

#include "core.pb-c.h"
#include "util/error.h"

/* Those of a process, from outside. NULL: it may not be asked. The caller frees, as part of a message. */
TaskRlimitsEntry *rlimits_read(pid_t pid);

/* That a program may get those here that it may depend on. limits may be NULL. */
MUST_USE struct error *rlimits_check(const TaskRlimitsEntry *limits);
