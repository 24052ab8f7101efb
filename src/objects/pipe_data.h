/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What is in a pipe or FIFO: its content, in packets where it is such (O_DIRECT: pipe(2)), and its size.
 */
#pragma once

#include "objects/objects.h"

/* NULL, or who outside of the program has the pipe. Not to be called while the program is frozen. */
MUST_USE struct error *pipe_check_ends(const struct open_file *file);

/* Puts what is in a pipe into the image, once for each pipe: if file can read it. Nothing is taken out. Runs frozen. */
MUST_USE struct error *pipe_data_save(const struct open_file *file, FdTypes type, uint32_t pipe_id,
                                      struct image_store *store);

/* Fills an empty pipe through fd, which can write. Leaves fd's status flags undefined. */
MUST_USE struct error *pipe_data_restore(struct restore_files *restore, FdTypes type, uint32_t pipe_id, int fd);
