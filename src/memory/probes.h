/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Breakpoints in a program's code: uprobes (perf, bpftrace, SystemTap) or those of a debugger that has let go of it. Over
 * there nobody would know of them, and the first one that is hit would end the program with SIGTRAP.
 */
#pragma once

#include "memory/areas.h"

/* An error that names the first one that is found: a page of code that differs from its file in breakpoints alone. */
MUST_USE struct error *probes_check(pid_t pid, const struct areas *areas);
