/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Deleted files that are still open or mapped: their content goes into an image of its own, once for each inode, and
 * they are restored as deleted again. The image has the name that the file had, so that /proc shows the same.
 */
#pragma once

#include "objects/reg_file.h"

/* NULL, or why this deleted file can't be carried. stat is as of now. */
MUST_USE struct error *ghost_check(const struct reg_file *file, const struct stat *stat);

/* Puts what there is of a deleted file, and what says that the entry file->id means it. Runs frozen. */
MUST_USE struct error *ghost_put(const struct reg_file *file, const struct stat *stat, struct image_store *store);

/* Which deleted file an entry means. False: it means what is at its path. */
MUST_USE struct error *ghost_find(uint32_t file_id, struct restore_files *restore, bool *ret_is_ghost,
                                  uint32_t *ret_ghost_id);

/* Opens it, made again at the first call, under the path that its entry has. */
MUST_USE struct error *ghost_open(uint32_t ghost_id, const RegFileEntry *entry, uint32_t flags,
                                  struct restore_files *restore, int *ret_fd);

/* Whether it could be made here. Makes nothing. */
MUST_USE struct error *ghost_verify(const RegFileEntry *entry);

/* Deleted files that were made from an earlier store get the content that this one has. */
MUST_USE struct error *ghosts_refresh(struct restore_files *restore);
