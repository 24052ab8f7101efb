/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* All commands. Adding one adds a file, a line here and a line in main.c. */
#pragma once

#include "cli/options.h"

extern const struct command check_command;
extern const struct command dump_command;
extern const struct command migrate_command;
extern const struct command predump_command;
extern const struct command receive_command;
extern const struct command resolve_command;
extern const struct command restore_command;
