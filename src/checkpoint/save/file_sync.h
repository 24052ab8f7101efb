/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a program has written to files on file systems of the network: forced to the server before another host looks at
 * them there.
 *
 * Much may wait in memory, so this is done while the program runs; in the freeze only for what has changed since, as the
 * file's times and size tell. Times may be as coarse as two seconds, so one that was written just before is forced again.
 */
#pragma once

#include "checkpoint/file_table.h"
#include "memory/areas.h"

struct file_sync;

struct file_sync *file_sync_new(void);
void file_sync_free(struct file_sync *sync);
DEFINE_OWNED(struct file_sync *, file_sync_free)

/* All that is open for writing; all that a process maps so. May run frozen. */
MUST_USE struct error *file_sync_open(struct file_sync *sync, const struct file_table *files);
MUST_USE struct error *file_sync_mapped(struct file_sync *sync, pid_t pid, const struct areas *areas);

/* Does this f_type of statfs(2) stand for a file system that other hosts may see, too? Of FUSE nobody knows. */
bool file_sync_is_remote(uint64_t file_system_type);
