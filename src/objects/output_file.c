/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.pb-c.h"
#include "objects/file_extra.h"
#include "objects/output_file.h"
#include "pstree.pb-c.h"
#include "util/alloc.h"

enum { MODE = 0600 };

/* ---- Is there a place for it? ---- */

static struct error *check_folder(const char *path)
{
	size_t length = (size_t)(strrchr(path, '/') - path);
	auto_free char *folder = xformat("%.*s", length > 0 ? (int)length : 1, path);
	struct stat stat_here;

	if (stat(folder, &stat_here) < 0 || access(folder, W_OK | X_OK) < 0)
		return error_new(errno, "folder %s, for %s to be made there", folder, path);
	return S_ISDIR(stat_here.st_mode) ? NULL : error_new(ENOTDIR, "%s", folder);
}

struct error *output_file_check(const char *path)
{
	struct stat stat_here;

	if (path[0] != '/' || strlen(path) >= PATH_MAX || path[strlen(path) - 1] == '/')
		return error_new(EBADMSG, "%.100s isn't the path of a file from the root", path);
	if (lstat(path, &stat_here) < 0)
		return errno == ENOENT ? check_folder(path) : error_new(errno, "stat(%s)", path);
	if (!S_ISREG(stat_here.st_mode))
		return error_new(EEXIST, "%s is there, and no regular file", path);
	return access(path, W_OK) < 0 ? error_new(errno, "write to %s", path) : NULL;
}

/* ---- Opening ---- */

struct error *output_file_is(const RegFileEntry *entry, struct restore_files *restore, bool *ret_is_it)
{
	auto_file_extra FileExtraEntry *extra = NULL;

	TRY(file_extra_find(restore, FD_TYPES__REG, entry->id, &extra));
	*ret_is_it = extra && extra->is_output;
	return NULL;
}

static struct error *give_to(int fd, const CoreEntry *core)
{
	const CredsEntry *creds = core->thread_core ? core->thread_core->creds : NULL;

	if (creds && fchown(fd, creds->fsuid, creds->fsgid) < 0)
		return error_new(errno, "fchown(%u, %u)", creds->fsuid, creds->fsgid);
	return NULL;
}

/* What the program itself would have made. */
static struct error *give_to_program(int fd, const struct image_store *store)
{
	ProtobufCMessage *message;

	TRY(image_get(store, IMAGE_PSTREE, 0, 0, &message));
	uint32_t pid = ((const PstreeEntry *)message)->pid;
	protobuf_c_message_free_unpacked(message, NULL);
	TRY(image_get(store, IMAGE_CORE, pid, 0, &message));
	struct error *error = give_to(fd, (const CoreEntry *)message);
	protobuf_c_message_free_unpacked(message, NULL);
	return error;
}

struct error *output_file_open(const RegFileEntry *entry, struct restore_files *restore, int *ret_fd)
{
	int flags = (int)(entry->flags & (O_ACCMODE | O_NONBLOCK)) | O_APPEND | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
	const char *path = entry->name;
	auto_fd int fd = -1;

	TRY(output_file_check(path));
	fd = open(path, flags | O_CREAT | O_EXCL, MODE);
	bool is_new = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, flags);
	if (fd < 0)
		return error_new(errno, "open(%s)", path);
	if (is_new) {
		restore_note_made(restore, path);
		TRY(give_to_program(fd, restore_store(restore)), "%s", path);
	}
	/* What is read from it is the end, not what others have written. */
	if (lseek(fd, 0, SEEK_END) < 0)
		return error_new(errno, "%s: lseek", path);
	*ret_fd = take(fd);
	return NULL;
}
