/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The probes that need a process to try things on. For probe.c only. */
#pragma once

#include "util/error.h"

MUST_USE struct error *probe_freeze(void);
MUST_USE struct error *probe_round_trip(void);
MUST_USE struct error *probe_tracking(void);
MUST_USE struct error *probe_set_tid(void);
MUST_USE struct error *probe_time_namespace(void);
MUST_USE struct error *probe_seccomp(void);
