/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a path leads to and has no state beyond its position: regular files, folders, /dev/null and its kind, and
 * whatever is only a place (O_PATH).
 *
 * Carried: path, position, flags; of deleted files the content, owner, mode and times. Saved from outside, restored in
 * the coordinator. reg_file.h does the work, since mappings and folders are files, too. Named pipes and terminals have
 * types of their own, which are asked first.
 */
#include <errno.h>
#include <fcntl.h>

#include "objects/output_file.h"
#include "objects/reg_file.h"
#include "util/alloc.h"
#include "util/procfs.h"

static bool regfile_recognizes(const struct open_file *file)
{
	/* What the kernel made without a path is called "pipe:[7]", "anon_inode:[eventfd]" and so on. What is mounted
	 * where no path of ours leads is "(unreachable)/…": known here, for the error that says so. */
	return file->link[0] == '/' || strncmp(file->link, "(unreachable)/", strlen("(unreachable)/")) == 0;
}

static struct reg_file describe(const struct open_file *file, const char *source)
{
	return (struct reg_file){
		.id = file->id,
		.source = source,
		.link = file->link,
		.dev = file->stat.st_dev,
		.ino = file->stat.st_ino,
		.flags = file->status_flags,
		.owner = file->owner,
		.all = file->all,
		.ghost_limit_bytes = file->options->ghost_limit_bytes,
	};
}

static struct error *regfile_check(const struct open_file *file)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);
	const struct reg_file reg = describe(file, source);

	return reg_file_check(&reg);
}

static struct error *regfile_save(const struct open_file *file, struct image_store *store)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);
	struct reg_file reg = describe(file, source);

	int r = procfs_number(file->fdinfo, "pos", 10, &reg.pos);
	if (r < 0)
		return error_new(-r, "pos in fdinfo");
	return reg_file_put(&reg, store);
}

static struct error *regfile_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                     struct made_file *ret_made)
{
	const RegFileEntry *reg = entry->reg;
	auto_fd int fd = -1;
	bool is_output;

	(void)batch;
	if (!reg)
		return error_new(EBADMSG, "file entry of type REG without a path");
	TRY(output_file_is(reg, restore, &is_output));
	TRY(is_output ? output_file_open(reg, restore, &fd) : reg_file_open(reg, reg->flags, restore, &fd));
	if (reg->pos > 0 && !(reg->flags & O_PATH) && lseek(fd, (off_t)reg->pos, SEEK_SET) < 0)
		return error_new(errno, "%s: lseek to %lld", reg->name, (long long)reg->pos);

	*ret_made = (struct made_file){
		.local_fd = take(fd),
		.status_flags = reg->flags,
		.owner = reg->fown,
	};
	return NULL;
}

const struct file_ops regfile_ops = {
	.name = "file",
	.type = FD_TYPES__REG,
	.recognizes = regfile_recognizes,
	.check = regfile_check,
	.save = regfile_save,
	.restore = regfile_restore,
};
