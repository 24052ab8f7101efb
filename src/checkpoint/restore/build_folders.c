/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Folders that are there only while a program is built, when this process is killed: the keeper removes them. What is in
 * them (sockets with a path) goes where it belongs, if the program lives on by then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/alive.h"
#include "checkpoint/restore/building.h"
#include "task/keeper.h"
#include "util/alloc.h"
#include "util/folder.h"
#include "util/procfs.h"

enum { DEATH_MS = 5000 /* that our death may take until it is known what has become of the program */ };

struct folder_undo {
	struct lock_holder holder; /* the program */
	char name[NAME_MAX + 1];
};
_Static_assert(sizeof(struct folder_undo) <= KEEPER_BYTES_MAX, "fits into a message to the keeper");

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_OWNED(DIR *, dir_close)

/* As unix_name_settle() would have done it. */
static void put_in_place(const char *folder, int parent_fd)
{
	AUTO(dir_close) DIR *dir = opendir(folder);
	struct stat stat;

	if (!dir)
		return;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the keeper has one thread */
	for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
		if (fstatat(dirfd(dir), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(stat.st_mode))
			renameat(dirfd(dir), entry->d_name, parent_fd, entry->d_name);
}

/* In the keeper: nobody is left to be told of an error. */
static void undo_folder(const void *bytes, const int *fds, size_t fd_count)
{
	char folder[sizeof("/proc/self/fd/2147483647/") + NAME_MAX];
	struct folder_undo undo;
	bool is_alive = false;

	memcpy(&undo, bytes, sizeof(undo));
	if (fd_count != 1)
		return;
	snprintf(folder, sizeof(folder), "/proc/self/fd/%d/%s", fds[0], undo.name);
	error_free(alive_prove(&undo.holder, DEATH_MS, &is_alive));
	if (is_alive)
		put_in_place(folder, fds[0]);
	folder_remove(folder);
}

struct error *build_watch_folder(const char *path, void *context)
{
	const struct build *build = context;
	struct folder_undo undo = {.holder.pid = build_root(build)->process->pid};
	const char *name = strrchr(path, '/') + 1;
	auto_free char *parent = xformat("%.*s", (int)(name - path), path);
	auto_fd int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const struct keeper_undo message = {
		.undo = undo_folder,
		.bytes = &undo,
		.size_bytes = sizeof(undo),
		.fds = &fd,
		.fd_count = 1,
	};
	uint32_t id;

	if (fd < 0)
		return error_new(errno, "folder %s", parent);
	if (strlen(name) > NAME_MAX)
		return error_new(ENAMETOOLONG, "folder %s", path);
	memcpy(undo.name, name, strlen(name));
	int r = procfs_start_time(undo.holder.pid, &undo.holder.start_time);
	if (r < 0)
		return error_new(-r, "start time of process %d", undo.holder.pid);
	return keeper_add(build->options.keeper, &message, &id);
}
