/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Tells who will see the copy of the program end that stays here: supervisor.h. */
#pragma once

#include "checkpoint/save/supervisor.h"
#include "cli/report.h"

/* As a line on standard error, in the log and in JSON. advice, a piece of a line, is for a supervisor that would start the
 * program again; only_bad: others aren't told of. */
void supervision_tell(const struct supervisor *supervisor, const char *advice, bool only_bad, struct report *report);
