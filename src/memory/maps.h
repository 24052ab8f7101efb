/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The text of /proc/PID/maps and smaps, line by line: proc_pid_maps(5), proc_pid_smaps(5). */
#pragma once

#include "memory/areas.h"

/*
 * A line of maps, without its newline, becomes an area with what that line tells: no status, and of flags only
 * MAP_SHARED or MAP_PRIVATE. The path is as the line has it. Returns 0 or -EINVAL.
 */
int maps_parse_line(const char *line, struct area *ret_area);

/* Is this line of smaps the beginning of an area? */
bool smaps_is_area(const char *line);

/* Any other line of smaps: adds what it tells to the area that it belongs to. Lines we don't use change nothing. */
void smaps_parse_attribute(const char *line, struct area *area);
