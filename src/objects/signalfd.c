/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* signalfd(2): signals that wait, behind a descriptor. Carried: which signals. The signals themselves are the task's. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "objects/objects.h"
#include "util/procfs.h"

enum { MASK_BYTES = 8 };

static bool signalfd_recognizes(const struct open_file *file)
{
	return strcmp(file->link, "anon_inode:[signalfd]") == 0;
}

static struct error *signalfd_save(const struct open_file *file, struct image_store *store)
{
	SignalfdEntry signals = SIGNALFD_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	int r = procfs_number(file->fdinfo, "sigmask", 16, &signals.sigmask);

	if (r < 0)
		return error_new(-r, "sigmask in fdinfo");
	signals.id = file->id;
	signals.flags = file->status_flags;
	signals.fown = file->owner;

	entry.type = FD_TYPES__SIGNALFD;
	entry.id = file->id;
	entry.sgfd = &signals;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static struct error *signalfd_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                      struct made_file *ret_made)
{
	const SignalfdEntry *signals = entry->sgfd;

	(void)restore;
	if (!signals)
		return error_new(EBADMSG, "file entry of type signalfd without a signalfd");
	*ret_made = (struct made_file){
		.local_fd = -1,
		.fd = batch_call(batch, signalfd4, val((uint64_t)-1),
	                         batch_bytes(batch, &signals->sigmask, sizeof(signals->sigmask)), val(MASK_BYTES),
	                         val(0)),
		.status_flags = signals->flags & ~(uint32_t)O_ACCMODE,
		.owner = signals->fown,
	};
	return NULL;
}

const struct file_ops signalfd_ops = {
	.name = "signalfd",
	.type = FD_TYPES__SIGNALFD,
	.recognizes = signalfd_recognizes,
	.save = signalfd_save,
	.restore = signalfd_restore,
};
