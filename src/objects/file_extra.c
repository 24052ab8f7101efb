/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "objects/file_extra.h"

uint64_t file_extra_key(FdTypes type, uint32_t id)
{
	return (uint64_t)type << 32 | id;
}

static uint64_t key_of(const ProtobufCMessage *message)
{
	const FileExtraEntry *extra = (const FileExtraEntry *)message;

	return file_extra_key(extra->type, extra->id);
}

struct error *file_extra_find(struct restore_files *restore, FdTypes type, uint32_t id, FileExtraEntry **ret_extra)
{
	size_t index = 0;
	bool is_found;

	*ret_extra = (FileExtraEntry *)restore_replacement(restore, IMAGE_FILE_EXTRA, file_extra_key(type, id));
	if (*ret_extra)
		return NULL;
	TRY(restore_find(restore, IMAGE_FILE_EXTRA, key_of, file_extra_key(type, id), &is_found, &index));
	*ret_extra = NULL;
	if (!is_found)
		return NULL;
	return image_get(restore_store(restore), IMAGE_FILE_EXTRA, 0, index, (ProtobufCMessage **)ret_extra);
}
