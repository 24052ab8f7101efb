/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * pipe(2), both ends in the program or one of them closed.
 *
 * Carried: content, packets (O_DIRECT), size (F_SETPIPE_SZ), flags of each end. Saved from a copy of the reading end,
 * made again in the coordinator.
 *
 * The two ends are two descriptions, each with an entry. The first to be restored makes both; the other waits among
 * the spare descriptors. An end that no entry asks for is closed with these, so the other sees EOF or EPIPE as before.
 * An end may also have been opened again (/dev/stdout, /proc/self/fd/1): such a one is opened from the anchor, a
 * descriptor of the pipe that is never handed out.
 */
#include <errno.h>
#include <fcntl.h>

#include "objects/pipe_data.h"
#include "util/alloc.h"

/* Spare descriptors of a pipe. */
enum spare { SPARE_READER, SPARE_WRITER, SPARE_ANCHOR };

static uint64_t spare_key(const PipeEntry *pipe, enum spare spare)
{
	return (uint64_t)pipe->pipe_id << 2 | spare;
}

static bool pipe_recognizes(const struct open_file *file)
{
	return strncmp(file->link, "pipe:[", strlen("pipe:[")) == 0;
}

static struct error *pipe_save(const struct open_file *file, struct image_store *store)
{
	PipeEntry pipe = PIPE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	pipe.id = file->id;
	pipe.pipe_id = (uint32_t)file->stat.st_ino; /* pipefs numbers have 32 bits */
	pipe.flags = file->status_flags;
	pipe.fown = file->owner;
	TRY(pipe_data_save(file, FD_TYPES__PIPE, pipe.pipe_id, store));

	entry.type = FD_TYPES__PIPE;
	entry.id = file->id;
	entry.pipe = &pipe;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static struct error *make_pipe(const PipeEntry *pipe, struct restore_files *restore)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_new(errno, "pipe2");
	restore_spare_give(restore, FD_TYPES__PIPE, spare_key(pipe, SPARE_READER), ends[0]);
	restore_spare_give(restore, FD_TYPES__PIPE, spare_key(pipe, SPARE_WRITER), ends[1]);
	int anchor = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
	if (anchor < 0)
		return error_new(errno, "F_DUPFD_CLOEXEC");
	restore_spare_give(restore, FD_TYPES__PIPE, spare_key(pipe, SPARE_ANCHOR), anchor);
	return pipe_data_restore(restore, FD_TYPES__PIPE, pipe->pipe_id, ends[1]);
}

static struct error *open_end(const PipeEntry *pipe, struct restore_files *restore, int *ret_fd)
{
	uint32_t access = pipe->flags & O_ACCMODE;
	int fd = -1;

	if (restore_spare_borrow(restore, FD_TYPES__PIPE, spare_key(pipe, SPARE_ANCHOR)) < 0)
		TRY(make_pipe(pipe, restore));
	if (access != O_RDWR)
		fd = restore_spare_take(restore, FD_TYPES__PIPE,
		                        spare_key(pipe, access == O_RDONLY ? SPARE_READER : SPARE_WRITER));
	if (fd < 0) {
		auto_free char *path = xformat("/proc/self/fd/%d", restore_spare_borrow(restore, FD_TYPES__PIPE,
		                                                                        spare_key(pipe, SPARE_ANCHOR)));

		fd = open(path, (int)access | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return error_new(errno, "open the pipe again");
	}
	*ret_fd = fd;
	return NULL;
}

static struct error *pipe_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                  struct made_file *ret_made)
{
	const PipeEntry *pipe = entry->pipe;
	int fd;

	(void)batch;
	if (!pipe || (pipe->flags & O_ACCMODE) == O_ACCMODE)
		return error_new(EBADMSG, "file entry of type PIPE without a pipe");
	TRY(open_end(pipe, restore, &fd));
	*ret_made = (struct made_file){.local_fd = fd, .status_flags = pipe->flags, .owner = pipe->fown};
	return NULL;
}

const struct file_ops pipe_ops = {
	.name = "pipe",
	.type = FD_TYPES__PIPE,
	.recognizes = pipe_recognizes,
	.check = pipe_check_ends,
	.save = pipe_save,
	.restore = pipe_restore,
};
