/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Named pipes (fifo(7)) that only the program has open.
 *
 * Carried: as of a pipe, and the path, which may have been deleted. The path is an entry of its own in files.img, which
 * also has the flags. Saved from a copy of a reading end, opened in the coordinator.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "objects/pipe_data.h"
#include "objects/reg_file.h"
#include "util/alloc.h"

static bool fifo_recognizes(const struct open_file *file)
{
	return S_ISFIFO(file->stat.st_mode) && file->link[0] == '/' && !(file->status_flags & O_PATH);
}

static struct reg_file describe(const struct open_file *file, const char *source)
{
	return (struct reg_file){
		.source = source,
		.link = file->link,
		.dev = file->stat.st_dev,
		.ino = file->stat.st_ino,
		.flags = file->status_flags,
		.owner = file->owner,
		.all = file->all,
	};
}

static struct error *fifo_check(const struct open_file *file)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);
	const struct reg_file reg = describe(file, source);

	TRY(reg_file_check(&reg));
	return pipe_check_ends(file);
}

static struct error *fifo_save(const struct open_file *file, struct image_store *store)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);
	struct reg_file reg = describe(file, source);
	FifoEntry fifo = FIFO_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	open_files_first(file->all, FD_TYPES__FIFO, file->stat.st_ino, file->stat.st_dev, &fifo.pipe_id);
	TRY(pipe_data_save(file, FD_TYPES__FIFO, fifo.pipe_id, store));
	reg.id = open_files_new_id(file->all);
	TRY(reg_file_put(&reg, store));

	fifo.id = file->id;
	fifo.has_regf_id = true;
	fifo.regf_id = reg.id;
	entry.type = FD_TYPES__FIFO;
	entry.id = file->id;
	entry.fifo = &fifo;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

/* With one descriptor that is open for both, no open of one end waits for the other: fifo(7). */
static struct error *open_anchor(const FifoEntry *fifo, const RegFileEntry *reg, struct restore_files *restore)
{
	auto_fd int anchor = -1;
	int unread = 0;

	TRY(reg_file_open(reg, O_RDWR, restore, &anchor));
	if (ioctl(anchor, FIONREAD, &unread) < 0)
		return error_new(errno, "%s: FIONREAD", reg->name);
	if (unread > 0)
		return error_new(EBUSY, "%s: another process has it open, and %d bytes are in it", reg->name, unread);
	TRY(pipe_data_restore(restore, FD_TYPES__FIFO, fifo->pipe_id, anchor), "%s", reg->name);
	restore_spare_give(restore, FD_TYPES__FIFO, fifo->pipe_id, take(anchor));
	return NULL;
}

static struct error *fifo_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                  struct made_file *ret_made)
{
	const FifoEntry *fifo = entry->fifo;
	FileEntry *path = NULL;
	auto_fd int fd = -1;

	(void)batch;
	if (!fifo || !fifo->has_regf_id)
		return error_new(EBADMSG, "file entry of type FIFO without a path");
	TRY(reg_file_find(fifo->regf_id, restore, &path));
	restore_keep(restore, &path->base);
	const RegFileEntry *reg = path->reg;
	if (!reg->has_mode || !S_ISFIFO(reg->mode))
		return error_new(EBADMSG, "%s: the path of a named pipe, but of mode %o", reg->name, reg->mode);
	if (restore_spare_borrow(restore, FD_TYPES__FIFO, fifo->pipe_id) < 0)
		TRY(open_anchor(fifo, reg, restore));
	TRY(reg_file_open(reg, reg->flags, restore, &fd));

	*ret_made = (struct made_file){.local_fd = take(fd), .status_flags = reg->flags, .owner = reg->fown};
	return NULL;
}

const struct file_ops fifo_ops = {
	.name = "fifo",
	.type = FD_TYPES__FIFO,
	.recognizes = fifo_recognizes,
	.check = fifo_check,
	.save = fifo_save,
	.restore = fifo_restore,
};
