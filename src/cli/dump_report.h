/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What dump and pre-dump tell about what they saved. */
#pragma once

#include "checkpoint/save/dump.h"
#include "cli/common.h"

/* Adds the figures to the report, writes them as stats-dump into the work folder, and prints a warning where there is
 * one. Frees what statistics points to. */
void dump_report(struct report *report, const struct common_options *options, struct dump_statistics *statistics);
