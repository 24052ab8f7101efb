/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the kinds of files share while a program is checked or saved: the first half of objects.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "objects/multicast.h"
#include "objects/tty_info.h"
#include "util/alloc.h"
#include "util/netlink.h"
#include "util/number_map.h"
#include "util/procfs.h"

struct error *open_file_copy(const struct open_file *file, int *ret_fd)
{
	int fd = (int)syscall(SYS_pidfd_getfd, file->pidfd, file->fd, 0);

	if (fd < 0)
		return error_new(errno, "pidfd_getfd(task %d, fd %d)", file->pid, file->fd);
	*ret_fd = fd;
	return NULL;
}

static void make_room(struct open_files *files, uint32_t id)
{
	size_t room = files->count > id ? files->count : id;

	if (files->copy_room > id)
		return;
	room = (room + 1) * 2;
	files->copies = reallocarray(files->copies, room, sizeof(*files->copies));
	if (!files->copies)
		abort();
	while (files->copy_room < room)
		files->copies[files->copy_room++] = -1;
}

struct error *open_file_borrow(const struct open_file *file, int *ret_fd)
{
	make_room(file->all, file->id);
	int *copy = &file->all->copies[file->id];
	if (*copy < 0)
		TRY(open_file_copy(file, copy));
	*ret_fd = *copy;
	return NULL;
}

void open_file_keep_copy(const struct open_file *file, int copy)
{
	make_room(file->all, file->id);
	if (file->all->copies[file->id] >= 0)
		close(file->all->copies[file->id]);
	file->all->copies[file->id] = copy;
}

void open_files_drop_copies(struct open_files *files)
{
	for (size_t i = 0; i < files->copy_room; i++)
		if (files->copies[i] >= 0)
			close(files->copies[i]);
	free(take(files->copies));
	files->copy_room = 0;
}

void open_files_begin(struct open_files *files)
{
	number_map_free(take(files->notes));
	multicast_groups_free(take(files->groups));
}

void open_files_free(struct open_files *files)
{
	open_files_drop_copies(files);
	number_map_free(take(files->notes));
	number_map_free(take(files->outsiders));
	netlink_free(take(files->diag));
	multicast_groups_free(take(files->groups));
}

uint32_t open_files_new_id(struct open_files *files)
{
	return files->next_id++;
}

/* Room for the type beside the second half of a key: inode numbers use all 64 bits, device numbers don't. */
static uint64_t with_type(FdTypes type, uint64_t key_more)
{
	return (uint64_t)type << 48 ^ key_more;
}

bool open_files_first(struct open_files *files, FdTypes type, uint64_t key, uint64_t key_more, uint32_t *ret_number)
{
	uint64_t number;

	if (!files->notes)
		files->notes = number_map_new();
	if (number_map_find(files->notes, key, with_type(type, key_more), &number)) {
		*ret_number = (uint32_t)number;
		return false;
	}
	*ret_number = open_files_new_id(files);
	number_map_add(files->notes, key, with_type(type, key_more), *ret_number);
	return true;
}

const struct open_task *open_files_task(const struct open_files *files, pid_t pid)
{
	for (size_t i = 0; i < files->task_count; i++)
		if (files->tasks[i].pid == pid)
			return &files->tasks[i];
	return NULL;
}

static int compare_number(const void *left, const void *right)
{
	const struct open_number *one = left;
	const struct open_number *other = right;

	return one->task == other->task ? one->fd - other->fd : one->task < other->task ? -1 : 1;
}

/* The first one with the same table. */
static size_t table_of(const struct open_files *files, const struct open_task *task)
{
	size_t first = 0;

	while (files->tasks[first].files_id != task->files_id)
		first++;
	return first;
}

const struct open_file *open_files_at(const struct open_files *files, pid_t pid, int fd)
{
	const struct open_task *task = open_files_task(files, pid);

	if (!task)
		return NULL;
	const struct open_number key = {.task = table_of(files, task), .fd = fd};
	const struct open_number *number =
		bsearch(&key, files->numbers, files->number_count, sizeof(key), compare_number);
	return number ? number->file : NULL;
}

const struct open_file *open_files_same(const struct open_files *files, int fd_here)
{
	struct stat stat;

	if (fstat(fd_here, &stat) < 0)
		return NULL;
	for (size_t i = 0; i < files->count; i++) {
		const struct open_file *file = &files->list[i];

		if (file->stat.st_ino == stat.st_ino && file->stat.st_dev == stat.st_dev &&
		    syscall(SYS_kcmp, getpid(), file->pid, KCMP_FILE, fd_here, file->fd) == 0)
			return file;
	}
	return NULL;
}

/* What has two ends, and files without a name, as memfds are. */
static bool is_noted(const struct statx *file)
{
	return S_ISFIFO(file->stx_mode) || S_ISSOCK(file->stx_mode) ||
	       (S_ISREG(file->stx_mode) && file->stx_nlink == 0) ||
	       (S_ISCHR(file->stx_mode) &&
	        tty_kind_of(makedev(file->stx_rdev_major, file->stx_rdev_minor)) == TTY_SLAVE);
}

/* Notes the pipes, sockets, pseudoterminals and files without a name that a process has open. One that ends meanwhile has none. */
static void note_files_of(struct open_files *files, pid_t pid)
{
	auto_free int *fds = NULL;
	size_t count = 0;

	if (procfs_numbers(pid, "fd", &fds, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		auto_free char *path = xformat("/proc/%d/fd/%d", pid, fds[i]);
		struct statx file;

		/* AT_STATX_DONT_SYNC: no question to a file server that may not answer. */
		if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_NLINK, &file) == 0 &&
		    is_noted(&file))
			number_map_add(files->outsiders, file.stx_ino, makedev(file.stx_dev_major, file.stx_dev_minor),
			               (uint64_t)pid);
	}
}

static void note_files_of_others(struct open_files *files)
{
	auto_free int *pids = NULL;
	size_t count = 0;

	if (procfs_numbers(getpid(), "..", &pids, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (pids[i] != getpid() && !open_files_task(files, pids[i]))
			note_files_of(files, pids[i]);
}

pid_t open_files_outsider(struct open_files *files, const struct stat *stat)
{
	uint64_t pid = 0;

	if (!files->outsiders) {
		files->outsiders = number_map_new();
		note_files_of_others(files);
	}
	number_map_find(files->outsiders, stat->st_ino, stat->st_dev, &pid);
	return (pid_t)pid;
}

char *open_files_process_text(pid_t pid)
{
	auto_free char *name = NULL;

	if (procfs_read(pid, "comm", &name, NULL) == 0)
		name[strcspn(name, "\n")] = '\0';
	return xformat("%d (%s)", pid, name ? name : "?");
}
