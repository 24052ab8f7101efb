/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A file at whose end a program goes on to write where it comes to: what the user named for its standard streams. Nothing
 * is expected of it. Where it isn't there it is made, for the program's user alone.
 */
#pragma once

#include "objects/objects.h"

/* NULL, or why it can't be written or made at this path. */
MUST_USE struct error *output_file_check(const char *path);

/* *ret_is_it: it is such a file. */
MUST_USE struct error *output_file_is(const RegFileEntry *entry, struct restore_files *restore, bool *ret_is_it);

/* One that is made here goes again if the restore fails. */
MUST_USE struct error *output_file_open(const RegFileEntry *entry, struct restore_files *restore, int *ret_fd);
