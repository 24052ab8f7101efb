/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The stub's pages that a killed godwit left in a process: its threads leave the stub by themselves, but a thread can't
 * unmap the code that it runs.
 */
#pragma once

#include <sys/types.h>

#include "util/error.h"

/* Finds and unmaps them. Stops the process for that, about as long as a freeze takes, only where there are any. Pages
 * of a godwit that lives are left alone. */
MUST_USE struct error *leftovers_clear(pid_t pid);
