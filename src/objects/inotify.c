/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * inotify(7): watches on files and folders.
 *
 * Carried: what is watched, for which events, and the numbers of the watches. The kernel tells an inode, not a path
 * (proc_pid_fdinfo(5)): open_by_handle_at(2) leads to one. Watches are added when all files are in their places, so that
 * nothing that is done until then makes an event.
 *
 * Traps: an event can't be put back into the queue, so there may be none that waits. INOTIFY_IOC_SETNEXTWD gives a watch
 * its number (Linux 4.16, with CONFIG_CHECKPOINT_RESTORE).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "objects/objects.h"
#include "task/process.h"
#include "util/alloc.h"

enum {
	HANDLE_WORDS = 16, /* that an entry has at least */
	HANDLE_BYTES_MAX = HANDLE_WORDS * 8,
	SET_NEXT_WATCH = 0x40044900, /* INOTIFY_IOC_SETNEXTWD of linux/inotify.h */
};

static bool inotify_recognizes(const struct open_file *file)
{
	return strcmp(file->link, "anon_inode:inotify") == 0;
}

/* ---- Saving ---- */

struct watch {
	InotifyWdEntry entry;
	FhEntry handle;
	uint64_t words[HANDLE_WORDS];
	char *path; /* owned; NULL: not looked for yet */
};

struct watches {
	struct watch *list; /* owned */
	size_t count;
};

static void watches_free(struct watches *watches)
{
	for (size_t i = 0; i < watches->count; i++)
		free(watches->list[i].path);
	free(watches->list);
}
#define auto_watches __attribute__((cleanup(watches_free)))

static bool parse_handle(const char *text, struct watch *watch)
{
	uint8_t bytes[HANDLE_BYTES_MAX] = {0};

	for (size_t i = 0; i < watch->handle.bytes; i++)
		if (sscanf(text + 2 * i, "%2" SCNx8, &bytes[i]) != 1)
			return false;
	memcpy(watch->words, bytes, sizeof(bytes));
	watch->handle.n_handle = HANDLE_WORDS;
	watch->handle.handle = watch->words;
	return true;
}

/* "inotify wd:1 ino:77 sdev:800001 mask:3 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:4d00…" */
static bool parse_watch(const char *line, struct watch *watch)
{
	InotifyWdEntry *entry = &watch->entry;
	char handle[2 * HANDLE_BYTES_MAX + 1];

	inotify_wd_entry__init(entry);
	fh_entry__init(&watch->handle);
	return sscanf(line,
	              "inotify wd:%" SCNx32 " ino:%" SCNx64 " sdev:%" SCNx32 " mask:%" SCNx32 " ignored_mask:%" SCNx32
	              " fhandle-bytes:%" SCNx32 " fhandle-type:%" SCNx32 " f_handle:%256s",
	              &entry->wd, &entry->i_ino, &entry->s_dev, &entry->mask, &entry->ignored_mask,
	              &watch->handle.bytes, &watch->handle.type, handle) == 8 &&
	       watch->handle.bytes <= HANDLE_BYTES_MAX && strlen(handle) >= 2 * (size_t)watch->handle.bytes &&
	       parse_handle(handle, watch);
}

static bool is_watched(const struct stat *stat, const InotifyWdEntry *entry)
{
	return stat->st_ino == entry->i_ino && (major(stat->st_dev) << 20 | minor(stat->st_dev)) == entry->s_dev;
}

/* Where that inode is by now, on the file system that is mounted at mount. NULL: not to be found there. */
static char *path_through(const char *mount, const struct watch *watch)
{
	union {
		struct file_handle handle;
		uint8_t bytes[sizeof(struct file_handle) + HANDLE_BYTES_MAX];
	} named = {.handle = {.handle_bytes = watch->handle.bytes, .handle_type = (int)watch->handle.type}};
	char path[PATH_MAX];
	struct stat stat;

	memcpy(named.handle.f_handle, watch->words, watch->handle.bytes);
	auto_fd int mount_fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_fd int fd = mount_fd < 0 ? -1 : open_by_handle_at(mount_fd, &named.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	auto_free char *link = xformat("/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return NULL;
	path[length] = '\0';
	return lstat(path, &stat) == 0 && is_watched(&stat, &watch->entry) ? xformat("%s", path) : NULL;
}

static char *find_path(const struct watch *watch)
{
	auto_file FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[PATH_MAX + 256];
	unsigned mount_major;
	unsigned mount_minor;
	char mount[PATH_MAX];

	while (mounts && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &mount_major, &mount_minor, mount) != 3 ||
		    (mount_major << 20 | mount_minor) != watch->entry.s_dev)
			continue;
		char *path = path_through(mount, watch);
		if (path)
			return path;
	}
	return NULL;
}

static struct error *read_watches(const struct open_file *file, struct watches *watches)
{
	for (const char *line = file->fdinfo; (line = strstr(line, "\ninotify wd:")); line++) {
		watches->list = xrealloc(watches->list, (watches->count + 1) * sizeof(*watches->list));
		struct watch *watch = &watches->list[watches->count];

		*watch = (struct watch){0};
		if (!parse_watch(line + 1, watch))
			return error_new(EPROTO, "fdinfo of an inotify: \"%.*s\"", (int)strcspn(line + 1, "\n"),
			                 line + 1);
		watches->count++;
		watch->path = find_path(watch);
		if (!watch->path)
			return error_hint(error_new(ENOTSUP,
			                            "watches inode %" PRIu64 ", which no path leads to any more",
			                            watch->entry.i_ino),
			                  "a program can only watch a file over there that has a path");
	}
	return NULL;
}

static struct error *check_queue(const struct open_file *file)
{
	int bytes = 0;
	int fd;

	TRY(open_file_borrow(file, &fd));
	if (ioctl(fd, FIONREAD, &bytes) < 0)
		return error_new(errno, "FIONREAD");
	return bytes > 0 ? error_hint(error_new(EAGAIN, "%d bytes of events wait", bytes),
	                              "try again when the program has read them")
	                 : NULL;
}

static struct error *inotify_check(const struct open_file *file)
{
	auto_watches struct watches watches = {0};

	TRY(check_queue(file));
	return read_watches(file, &watches);
}

static struct error *inotify_save(const struct open_file *file, struct image_store *store)
{
	auto_watches struct watches watches = {0};
	InotifyFileEntry inotify = INOTIFY_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	TRY(check_queue(file));
	TRY(read_watches(file, &watches));
	auto_free InotifyWdEntry **pointers = xalloc((watches.count + 1) * sizeof(InotifyWdEntry *));
	for (size_t i = 0; i < watches.count; i++) {
		struct watch *watch = &watches.list[i];

		watch->handle.handle = watch->words; /* the list has grown since */
		watch->handle.path = watch->path;
		watch->entry.id = file->id;
		watch->entry.f_handle = &watch->handle;
		pointers[i] = &watch->entry;
	}
	inotify.id = file->id;
	inotify.flags = file->status_flags;
	inotify.fown = file->owner;
	inotify.n_wd = watches.count;
	inotify.wd = pointers;

	entry.type = FD_TYPES__INOTIFY;
	entry.id = file->id;
	entry.ify = &inotify;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

/* ---- Restoring ---- */

static struct error *check_entry(const FileEntry *entry)
{
	if (!entry->ify)
		return error_new(EBADMSG, "file entry of type INOTIFY without an inotify");
	for (size_t i = 0; i < entry->ify->n_wd; i++) {
		const InotifyWdEntry *watch = entry->ify->wd[i];

		if (!watch->f_handle->path)
			return error_new(ENOTSUP, "watch %u without a path", watch->wd);
		if (watch->wd == 0 || watch->wd > INT32_MAX)
			return error_new(EBADMSG, "watch %u", watch->wd);
	}
	return NULL;
}

static struct error *inotify_preflight(const FileEntry *entry, struct restore_files *restore)
{
	struct error *error = NULL;
	struct stat stat;

	(void)restore;
	TRY(check_entry(entry));
	for (size_t i = 0; i < entry->ify->n_wd; i++) {
		const char *path = entry->ify->wd[i]->f_handle->path;

		if (lstat(path, &stat) < 0)
			error = error_join(error, error_new(0, "%s: watched by the program, and missing here", path));
	}
	return error;
}

static struct error *inotify_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                     struct made_file *ret_made)
{
	(void)restore;
	(void)batch;
	TRY(check_entry(entry));
	int fd = inotify_init1(IN_CLOEXEC);
	if (fd < 0)
		return error_hint(error_new(errno, "inotify_init1"),
		                  "sysctl fs.inotify.max_user_instances may be too low");
	*ret_made = (struct made_file){
		.local_fd = fd,
		.status_flags = entry->ify->flags & ~(uint32_t)O_ACCMODE,
		.owner = entry->ify->fown,
	};
	return NULL;
}

static struct error *add_watch(int fd, const InotifyWdEntry *watch)
{
	const char *path = watch->f_handle->path;

	if (ioctl(fd, SET_NEXT_WATCH, (int)watch->wd) < 0)
		return error_hint(error_new(errno, "INOTIFY_IOC_SETNEXTWD(%u)", watch->wd),
		                  "the kernel needs CONFIG_CHECKPOINT_RESTORE");
	/* The path is that of the inode itself. */
	int wd = inotify_add_watch(fd, path, watch->mask | IN_DONT_FOLLOW);
	if (wd < 0)
		return error_new(errno, "inotify_add_watch(%s)", path);
	if (wd != (int)watch->wd)
		return error_new(EBUSY, "%s: watch %d, not %u", path, wd, watch->wd);
	return NULL;
}

static struct error *inotify_finish(const struct placed_file *file, struct restore_files *restore, struct process *task)
{
	auto_fd int fd = (int)syscall(SYS_pidfd_getfd, task->pidfd, file->fd, 0);

	(void)restore;
	if (fd < 0)
		return error_new(errno, "pidfd_getfd(%d)", file->fd);
	for (size_t i = 0; i < file->entry->ify->n_wd; i++)
		TRY(add_watch(fd, file->entry->ify->wd[i]));
	return NULL;
}

const struct file_ops inotify_ops = {
	.name = "inotify",
	.type = FD_TYPES__INOTIFY,
	.recognizes = inotify_recognizes,
	.check = inotify_check,
	.save = inotify_save,
	.preflight = inotify_preflight,
	.restore = inotify_restore,
	.finish = inotify_finish,
};
