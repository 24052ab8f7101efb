/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What becomes of standard input, output and error (descriptors 0 to 2, and the duplicates of them) that can't go along
 * or whose other end stays, where the user says so: struct carry_options.
 *
 * Another open file takes their place in the images, under the same id: /dev/null, a file that is written at its end, or
 * a stream to the journal. What is only read becomes /dev/null in any case.
 */
#pragma once

#include "objects/objects.h"

/* For the errors that the other ways out are told by. */
extern const char stdio_terminal_hint[];

/* In images: puts something else in the place of the standard streams (of this fdinfo image) that had another end, and leaves
 * the session of a terminal. */
MUST_USE struct error *standard_streams_replace(struct restore_files *restore, uint32_t files_id);
bool standard_streams_detach(const struct image_store *store, const struct carry_options *options);

/* The kind of what takes the place of this file, and writes it into the images; NULL: nothing is to. */
const struct file_ops *stdio_ops_for(const struct open_file *file);
