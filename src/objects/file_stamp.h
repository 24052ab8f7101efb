/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * When a file that the program writes was last written, and in which folder it is: in file-extra.godwit.
 *
 * The folder tells whether both hosts see one file system: an inode number and a time of birth belong to one folder in
 * the world. If they do, a file that differs while the program still runs has just been written, replaced or deleted,
 * and looking at it again in the freeze is soon enough. If they don't, what is here is a copy, and a copy that was made
 * before the last write has the wrong content, even where its size is right.
 */
#pragma once

#include "objects/reg_file.h"

/* Puts it into the store, if the program has the file open for writing. stat is that of the file at path. Runs frozen. */
void file_stamp_put(const struct reg_file *file, const char *path, const struct stat *stat, struct image_store *store);

/* What an entry's stamp says of the file at its path here; its stat is NULL where there is none. */
enum file_stamp_verdict {
	FILE_STAMP_NONE,   /* nothing */
	FILE_STAMP_SHARED, /* it is the same file, or was before the program went on with it */
	FILE_STAMP_OLD,    /* a copy made before the last write */
};

MUST_USE struct error *file_stamp_compare(const RegFileEntry *entry, const struct stat *stat,
                                          struct restore_files *restore, enum file_stamp_verdict *ret_verdict);
