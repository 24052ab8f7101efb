/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Making UNIX sockets again: the second half of unixsk.c.
 *
 * In three steps, since sockets need each other. Each is made, alone or with its other end (which may have been closed
 * since: then it lives until the queue is filled), gets its options and is bound. When all files are in their places
 * the queues are filled, from the other ends and with whatever was in flight. At last halves are closed, and what would
 * have been in the way is set.
 *
 * The kernel remembers who made a pair, called listen(2) or connect(2): SO_PEERCRED. So that is done in the task, under
 * the user that the program had then.
 */
#pragma once

#include "objects/objects.h"

MUST_USE struct error *unix_verify(const FileEntry *entry, struct restore_files *restore);
MUST_USE struct error *unix_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                    struct made_file *ret_made);
MUST_USE struct error *unix_finish(const struct placed_file *file, struct restore_files *restore, struct process *task);
MUST_USE struct error *unix_resume(const FileEntry *entry, const struct image_store *store, int fd);
