/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What godwit saves of a file and the image's other messages have no field for: file-extra.godwit. */
#pragma once

#include "file-extra.pb-c.h"
#include "objects/objects.h"

static inline void file_extra_free(FileExtraEntry *extra)
{
	if (extra)
		file_extra_entry__free_unpacked(extra, NULL);
}
DEFINE_OWNED(FileExtraEntry *, file_extra_free)
#define auto_file_extra AUTO(file_extra_free)

/* For restore_replace(). */
uint64_t file_extra_key(FdTypes type, uint32_t id);

/* NULL where there is nothing: an image that somebody else wrote. The caller frees. */
MUST_USE struct error *file_extra_find(struct restore_files *restore, FdTypes type, uint32_t id,
                                       FileExtraEntry **ret_extra);
