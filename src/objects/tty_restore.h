/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Terminals of an image: the second half of tty.c's struct file_ops. */
#pragma once

#include "objects/objects.h"

bool tty_entry_stays(const FileEntry *entry, const struct restore_files *restore);
MUST_USE struct error *tty_preflight(const FileEntry *entry, struct restore_files *restore);
MUST_USE struct error *tty_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                   struct made_file *ret_made);
MUST_USE struct error *tty_finish(const struct placed_file *file, struct restore_files *restore, struct process *task);
MUST_USE struct error *tty_resume(const FileEntry *entry, const struct image_store *store, int fd);
