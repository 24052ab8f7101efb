/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include "objects/file_extra.h"
#include "objects/file_stamp.h"
#include "util/alloc.h"

static const uint64_t ns_per_s = 1000000000;

static bool can_write(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
}

/* By this description or another one. */
static bool is_written(const struct reg_file *file)
{
	if (can_write(file->flags))
		return true;
	for (size_t i = 0; i < file->all->count; i++) {
		const struct open_file *other = &file->all->list[i];

		if (other->stat.st_ino == file->ino && other->stat.st_dev == file->dev &&
		    can_write(other->status_flags))
			return true;
	}
	return false;
}

/* Files that the kernel makes up have times that say nothing of their content. */
static bool is_made_up(const char *path)
{
	static const unsigned long magics[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC,   CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
		DEBUGFS_MAGIC,    TRACEFS_MAGIC, SECURITYFS_MAGIC,   BPF_FS_MAGIC,
	};
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return true;
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		if ((unsigned long)fs.f_type == magics[i])
			return true;
	return false;
}

static bool look_at_folder(const char *path, struct statx *ret_folder)
{
	auto_free char *folder = xformat("%.*s", (int)(strrchr(path, '/') - path + 1), path);

	return statx(AT_FDCWD, folder, AT_STATX_SYNC_AS_STAT, STATX_INO | STATX_MTIME | STATX_BTIME, ret_folder) == 0;
}

static uint64_t time_ns(int64_t seconds, uint32_t nanoseconds)
{
	return (uint64_t)seconds * ns_per_s + nanoseconds;
}

void file_stamp_put(const struct reg_file *file, const char *path, const struct stat *stat, struct image_store *store)
{
	FileExtraEntry extra = FILE_EXTRA_ENTRY__INIT;
	struct statx folder;

	if (!S_ISREG(stat->st_mode) || !is_written(file) || is_made_up(path) || !look_at_folder(path, &folder))
		return;
	extra.type = FD_TYPES__REG;
	extra.id = file->id;
	extra.has_written_ns = true;
	extra.written_ns = time_ns(stat->st_mtim.tv_sec, (uint32_t)stat->st_mtim.tv_nsec);
	extra.has_folder_inode = true;
	extra.folder_inode = folder.stx_ino;
	extra.has_folder_written_ns = true;
	extra.folder_written_ns = time_ns(folder.stx_mtime.tv_sec, folder.stx_mtime.tv_nsec);
	/* Not every file system has it; those of the network do since Linux 6.16. */
	extra.has_folder_born_ns = (folder.stx_mask & STATX_BTIME) != 0;
	extra.folder_born_ns = time_ns(folder.stx_btime.tv_sec, folder.stx_btime.tv_nsec);
	image_put(store, IMAGE_FILE_EXTRA, 0, &extra.base);
}

/* Is it the very folder? Root folders all have the same inode number, so that alone says little. */
static bool is_same_folder(const char *path, const FileExtraEntry *extra)
{
	struct statx folder;

	if (!extra->has_folder_inode || !look_at_folder(path, &folder) || folder.stx_ino != extra->folder_inode)
		return false;
	if (extra->has_folder_born_ns && (folder.stx_mask & STATX_BTIME))
		return extra->folder_born_ns == time_ns(folder.stx_btime.tv_sec, folder.stx_btime.tv_nsec);
	return time_ns(folder.stx_mtime.tv_sec, folder.stx_mtime.tv_nsec) >= extra->folder_written_ns;
}

/* A copy may have been made with the time in whole seconds: scp -p. */
static bool is_older(const struct stat *stat, uint64_t written_ns)
{
	if (stat->st_mtim.tv_nsec == 0)
		written_ns -= written_ns % ns_per_s;
	return time_ns(stat->st_mtim.tv_sec, (uint32_t)stat->st_mtim.tv_nsec) < written_ns;
}

struct error *file_stamp_compare(const RegFileEntry *entry, const struct stat *stat, struct restore_files *restore,
                                 enum file_stamp_verdict *ret_verdict)
{
	auto_file_extra FileExtraEntry *extra = NULL;

	*ret_verdict = FILE_STAMP_NONE;
	TRY(file_extra_find(restore, FD_TYPES__REG, entry->id, &extra));
	if (!extra)
		return NULL;
	if (is_same_folder(entry->name, extra))
		*ret_verdict = FILE_STAMP_SHARED;
	else if (stat && extra->has_written_ns && is_older(stat, extra->written_ns))
		*ret_verdict = FILE_STAMP_OLD;
	return NULL;
}
