/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "objects/file_stamp.h"
#include "objects/ghost.h"
#include "objects/output_file.h"
#include "objects/reg_file.h"
#include "pstree.pb-c.h"
#include "util/alloc.h"

enum { MQUEUE_MAGIC = 0x19800202 }; /* f_type of mqueue file systems: ipc/mqueue.c */

/* ---- Saving ---- */

/* Where a file is, and whether it still is there. */
struct place {
	char path[PATH_MAX]; /* without " (deleted)" */
	bool is_deleted;
	struct stat stat; /* as of now */
};

static bool is_same_file(const struct reg_file *file, const struct stat *stat)
{
	return stat->st_dev == file->dev && stat->st_ino == file->ino;
}

/* What /proc says where the path is gone: proc_pid_fd(5). A name may end like that, too: so it's asked for last. */
static bool strip_deleted(char *path)
{
	static const char mark[] = " (deleted)";
	size_t length = strlen(path);
	size_t mark_length = sizeof(mark) - 1;

	if (length <= mark_length || strcmp(path + length - mark_length, mark) != 0)
		return false;
	path[length - mark_length] = '\0';
	return true;
}

static struct error *read_link(const struct reg_file *file, char path[PATH_MAX])
{
	ssize_t length = readlink(file->source, path, PATH_MAX);

	if (length < 0)
		return error_new(errno, "readlink(%s)", file->source);
	if (length == PATH_MAX)
		return error_new(ENAMETOOLONG, "readlink(%s)", file->source);
	path[length] = '\0';
	return NULL;
}

/* Why it isn't where its path says, though nobody has deleted it. */
static struct error *explain(const struct reg_file *file, const char *path, bool is_there)
{
	struct statfs system;

	if (statfs(file->source, &system) == 0 && system.f_type == MQUEUE_MAGIC)
		return error_hint(error_new(ENOTSUP, "%s: a message queue of mq_open(3), which stays here", path),
		                  "the program has to close it");
	return error_new(0, "%s: %s", path,
	                 is_there ? "another file is there now, or a mount hides it"
	                          : "nothing is there, yet it was not deleted");
}

static struct error *find_place(const struct reg_file *file, struct place *ret_place)
{
	/* Most files are still where they were. */
	if (file->link && strlen(file->link) < PATH_MAX && lstat(file->link, &ret_place->stat) == 0 &&
	    is_same_file(file, &ret_place->stat)) {
		stpcpy(ret_place->path, file->link);
		ret_place->is_deleted = false;
		return NULL;
	}

	TRY(read_link(file, ret_place->path));
	if (ret_place->path[0] != '/')
		return error_new(0, "%s: it can't be reached by a path from here", ret_place->path);
	int r = lstat(ret_place->path, &ret_place->stat);
	ret_place->is_deleted = false;
	if (r == 0 && is_same_file(file, &ret_place->stat))
		return NULL;

	ret_place->is_deleted = strip_deleted(ret_place->path);
	if (!ret_place->is_deleted)
		return explain(file, ret_place->path, r == 0);
	/* It may have got that name back: link(2). */
	if (lstat(ret_place->path, &ret_place->stat) == 0 && is_same_file(file, &ret_place->stat)) {
		ret_place->is_deleted = false;
		return NULL;
	}
	if (stat(file->source, &ret_place->stat) < 0)
		return error_new(errno, "stat(%s)", file->source);
	return NULL;
}

/* Devices of the memory driver that have no state: mem(4), random(4), full(4). */
static bool is_plain_device(const struct stat *stat)
{
	static const unsigned minors[] = {3, 5, 7, 8, 9}; /* null, zero, full, random, urandom */

	if (!S_ISCHR(stat->st_mode) || major(stat->st_rdev) != 1)
		return false;
	for (size_t i = 0; i < sizeof(minors) / sizeof(minors[0]); i++)
		if (minor(stat->st_rdev) == minors[i])
			return true;
	return false;
}

static struct error *check_type(const struct stat *stat, uint32_t flags)
{
	if (flags & O_PATH || S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode) || S_ISFIFO(stat->st_mode) ||
	    is_plain_device(stat))
		return NULL;
	return error_new(0, "%s device %u:%u",
	                 S_ISCHR(stat->st_mode)   ? "character"
	                 : S_ISBLK(stat->st_mode) ? "block"
	                                          : "unknown",
	                 major(stat->st_rdev), minor(stat->st_rdev));
}

struct error *reg_file_check(const struct reg_file *file)
{
	struct place place;

	TRY(find_place(file, &place));
	TRY(check_type(&place.stat, file->flags));
	if (place.is_deleted)
		TRY(ghost_check(file, &place.stat), "%s", place.path);
	return NULL;
}

/* 4 bytes a word, the last one filled up with zeros. */
static size_t pack_build_id(const struct reg_file *file, uint32_t words[BUILD_ID_MAX_BYTES / 4])
{
	memset(words, 0, BUILD_ID_MAX_BYTES);
	if (file->build_id_bytes > 0)
		memcpy(words, file->build_id, file->build_id_bytes);
	return (file->build_id_bytes + 3) / 4;
}

struct error *reg_file_put(const struct reg_file *file, struct image_store *store)
{
	RegFileEntry reg = REG_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	FownEntry nobody = FOWN_ENTRY__INIT;
	uint32_t build_id[BUILD_ID_MAX_BYTES / 4];
	struct place place;

	TRY(find_place(file, &place));
	TRY(check_type(&place.stat, file->flags), "%s", place.path);
	if (place.is_deleted)
		TRY(ghost_put(file, &place.stat, store), "%s", place.path);

	reg.id = file->id;
	reg.flags = file->flags;
	reg.pos = file->pos;
	reg.fown = file->owner ? file->owner : &nobody;
	reg.name = place.path;
	reg.has_size = S_ISREG(place.stat.st_mode);
	reg.size = (uint64_t)place.stat.st_size;
	reg.has_mode = true;
	reg.mode = place.stat.st_mode;
	reg.n_build_id = pack_build_id(file, build_id);
	reg.build_id = build_id;

	entry.type = FD_TYPES__REG;
	entry.id = file->id;
	entry.reg = &reg;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	if (!place.is_deleted)
		file_stamp_put(file, place.path, &place.stat, store);
	return NULL;
}

/* ---- Restoring ---- */

/* A path that the kernel could have said: absolute, nothing in it that leads elsewhere. */
static struct error *check_name(const char *name)
{
	if (name[0] != '/' || strlen(name) >= PATH_MAX || strstr(name, "//") || strstr(name, "/../") ||
	    strstr(name, "/./"))
		return error_new(EBADMSG, "path %.100s", name);
	const char *last = strrchr(name, '/');
	if (strcmp(last, "/..") == 0 || strcmp(last, "/.") == 0)
		return error_new(EBADMSG, "path %.100s", name);
	return NULL;
}

/* Ours may be shorter than what the image has room for: then nobody else's is the same. */
static bool has_build_id(int fd, const RegFileEntry *entry)
{
	uint8_t build_id[BUILD_ID_MAX_BYTES] = {0};
	size_t size_bytes = reg_file_build_id(fd, build_id);

	return (size_bytes + 3) / 4 == entry->n_build_id &&
	       memcmp(build_id, entry->build_id, entry->n_build_id * 4) == 0;
}

/* A log may have grown while nobody looked; whoever writes elsewhere relies on what is there. */
static bool has_size(const struct stat *stat, const RegFileEntry *entry)
{
	uint64_t size_bytes = (uint64_t)stat->st_size;

	return size_bytes == entry->size || (entry->flags & O_APPEND && size_bytes > entry->size);
}

static struct error *compare(const RegFileEntry *entry, const struct stat *stat)
{
	if (entry->has_mode && (entry->mode & S_IFMT) != (stat->st_mode & S_IFMT))
		return error_new(0, "%s: of another type here (mode %o, not %o)", entry->name, stat->st_mode,
		                 entry->mode);
	TRY(check_type(stat, entry->flags), "%s", entry->name);
	if (!S_ISREG(stat->st_mode))
		return NULL;
	if (entry->has_size && !has_size(stat, entry))
		return error_new(0, "%s: %jd bytes here, %" PRIu64 " when it was saved", entry->name,
		                 (intmax_t)stat->st_size, entry->size);
	if (entry->has_mode && (entry->mode & 07777) != (stat->st_mode & 07777))
		return error_new(0, "%s: mode %o here, %o when it was saved", entry->name, stat->st_mode & 07777,
		                 entry->mode & 07777);
	return NULL;
}

static struct error *compare_build_id(const RegFileEntry *entry)
{
	if (entry->n_build_id == 0)
		return NULL;
	auto_fd int fd = open(entry->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "open(%s)", entry->name);
	if (!has_build_id(fd, entry))
		return error_new(0, "%s: another build than the one that was saved (build ID)", entry->name);
	return NULL;
}

/* In single quotes, as a shell reads it. The caller frees. */
static char *quoted(const char *path)
{
	char *text = xalloc(4 * strlen(path) + 3);
	char *end = stpcpy(text, "'");

	for (; *path; path++) {
		const char one[] = {*path, '\0'};
		end = stpcpy(end, *path == '\'' ? "'\\''" : one);
	}
	stpcpy(end, "'");
	return text;
}

/* That the file at the entry's path is the one that was saved; without a hint. */
static struct error *probe(const RegFileEntry *entry, struct stat *ret_stat)
{
	if (lstat(entry->name, ret_stat) < 0)
		return errno == ENOENT || errno == ENOTDIR ? error_new(0, "%s: missing here", entry->name)
		                                           : error_new(errno, "stat(%s)", entry->name);
	TRY(compare(entry, ret_stat));
	return compare_build_id(entry);
}

static struct error *written_since(const RegFileEntry *entry)
{
	auto_free char *path = quoted(entry->name);

	return error_hint(
		error_new(0, "%s: the program has written to it since this copy was made", entry->name),
		"rsync -a SOURCE:%s %s; as long as it writes, stop it before (kill -STOP) and let it go on over "
		"there (kill -CONT), or use a file system that both hosts share",
		path, path);
}

/* What a file server says now, not what it said when we looked last: statx(2). */
static void ask_server(const char *path)
{
	struct statx stat;

	(void)statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stat);
}

static struct error *probe_with_stamp(const RegFileEntry *entry, struct restore_files *restore, struct stat *ret_stat)
{
	ask_server(entry->name);

	struct stat *seen = lstat(entry->name, ret_stat) == 0 ? ret_stat : NULL;
	enum file_stamp_verdict verdict;

	TRY(file_stamp_compare(entry, seen, restore, &verdict));
	switch (verdict) {
	case FILE_STAMP_SHARED:
		if (restore_is_running(restore))
			return NULL;
		break;
	case FILE_STAMP_OLD:
		return written_since(entry);
	case FILE_STAMP_NONE:
		break;
	}
	return probe(entry, ret_stat);
}

/* Is it a process of the images, or of a program of which there is only a sketch yet? */
static bool is_to_come(pid_t pid, const struct restore_files *restore)
{
	const struct image_store *store = restore_store(restore);
	size_t count = image_count(store, IMAGE_PSTREE, 0);
	bool is_there = count == 0 && restore_is_running(restore);

	for (size_t i = 0; i < count && !is_there; i++) {
		ProtobufCMessage *message;
		auto_error struct error *error = image_get(store, IMAGE_PSTREE, 0, i, &message);

		if (error)
			return false;
		is_there = ((const PstreeEntry *)message)->pid == (uint32_t)pid;
		protobuf_c_message_free_unpacked(message, NULL);
	}
	return is_there;
}

/* What a program reads about itself in /proc, often for a moment only: it comes with its process. */
static bool comes_with_process(const RegFileEntry *entry, const struct restore_files *restore)
{
	struct stat stat;
	char *end;

	if (strncmp(entry->name, "/proc/", 6) != 0 || lstat(entry->name, &stat) == 0)
		return false;
	long pid = strtol(entry->name + 6, &end, 10);
	return *end == '/' && pid > 0 && is_to_come((pid_t)pid, restore);
}

static struct error *verify(const RegFileEntry *entry, struct restore_files *restore, struct stat *ret_stat)
{
	struct error *error = check_name(entry->name);

	if (!error && comes_with_process(entry, restore))
		return NULL;
	if (!error)
		error = probe_with_stamp(entry, restore, ret_stat);
	if (!error || error_errnum(error) != 0 || error_nth_hint(error, 0))
		return error;
	auto_free char *path = quoted(entry->name);
	return error_hint(error, "rsync -a SOURCE:%s %s", path, path);
}

/* What of F_GETFL is for open(2). The rest would make, empty or lose something, or is set later. */
static int open_flags(uint32_t flags)
{
	static const uint32_t kept = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME |
	                             O_PATH | O_DIRECTORY | O_NOFOLLOW | O_LARGEFILE;

	/* O_TMPFILE has the bit of O_DIRECTORY in it, though it's no folder: open(2). */
	if ((flags & O_TMPFILE) == O_TMPFILE)
		flags &= ~(uint32_t)O_TMPFILE;
	return (int)(flags & kept) | O_CLOEXEC | O_NOCTTY;
}

static struct error *open_path(const RegFileEntry *entry, int flags, struct restore_files *restore, int *ret_fd)
{
	struct stat expected = {0};
	struct stat stat;

	TRY(verify(entry, restore, &expected));
	/* An O_PATH descriptor may stand for a symbolic link; no other can. */
	if (S_ISLNK(expected.st_mode))
		flags |= O_NOFOLLOW;
	/* Only fifo.c opens named pipes otherwise, and sets the flags afterwards. Nobody waits for another end here. */
	if (S_ISFIFO(expected.st_mode))
		flags |= O_NONBLOCK;
	auto_fd int fd = open(entry->name, flags);
	if (fd < 0)
		return error_new(errno, "open(%s, %#o)", entry->name, flags);
	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat(%s)", entry->name);
	if (stat.st_dev != expected.st_dev || stat.st_ino != expected.st_ino)
		return error_new(EAGAIN, "%s: replaced while it was opened", entry->name);
	*ret_fd = take(fd);
	return NULL;
}

struct error *reg_file_open(const RegFileEntry *entry, uint32_t flags, struct restore_files *restore, int *ret_fd)
{
	uint32_t ghost_id = 0;
	bool is_ghost;

	TRY(ghost_find(entry->id, restore, &is_ghost, &ghost_id));
	if (!is_ghost)
		return open_path(entry, open_flags(flags), restore, ret_fd);
	TRY(check_name(entry->name));
	TRY(ghost_open(ghost_id, entry, (uint32_t)open_flags(flags), restore, ret_fd), "%s (deleted)", entry->name);
	return NULL;
}

static void entry_free(FileEntry *entry)
{
	if (entry)
		file_entry__free_unpacked(entry, NULL);
}
DEFINE_OWNED(FileEntry *, entry_free)
#define auto_entry AUTO(entry_free)

struct error *reg_file_find(uint32_t id, struct restore_files *restore, FileEntry **ret_entry)
{
	auto_entry FileEntry *entry = NULL;

	TRY(restore_file_entry(restore, id, &entry));
	if (entry->type != FD_TYPES__REG || !entry->reg || entry->reg->id != id)
		return error_new(EBADMSG, "file %#x in files.img has no path", id);
	*ret_entry = take(entry);
	return NULL;
}

struct error *reg_file_open_id(uint32_t id, uint32_t flags, struct restore_files *restore, int *ret_fd)
{
	auto_entry FileEntry *entry = NULL;

	TRY(reg_file_find(id, restore, &entry));
	assert(entry);
	return reg_file_open(entry->reg, flags, restore, ret_fd);
}

static bool is_written(const RegFileEntry *entry)
{
	return (entry->flags & O_ACCMODE) != O_RDONLY && !(entry->flags & O_PATH);
}

/* Under their path terminals are never opened: tty.c. */
static bool is_terminal_path(const RegFileEntry *reg)
{
	return reg->has_mode && S_ISCHR(reg->mode) &&
	       (strncmp(reg->name, "/dev/pts/", strlen("/dev/pts/")) == 0 ||
	        strncmp(reg->name, "/dev/tty", strlen("/dev/tty")) == 0 || strcmp(reg->name, "/dev/ptmx") == 0);
}

static struct error *verify_entry(struct restore_files *restore, size_t index, bool written_only)
{
	auto_entry FileEntry *entry = NULL;
	struct stat stat;
	uint32_t ghost_id;
	bool is_ghost;
	bool is_output;

	TRY(restore_nth_file_entry(restore, index, &entry));
	if (entry->type != FD_TYPES__REG)
		return NULL;
	if (!entry->reg)
		return error_new(EBADMSG, "file entry %#x of type REG without a path", entry->id);
	if (written_only && !is_written(entry->reg))
		return NULL;
	TRY(check_name(entry->reg->name));
	if (is_terminal_path(entry->reg))
		return NULL;
	TRY(output_file_is(entry->reg, restore, &is_output));
	if (is_output)
		return output_file_check(entry->reg->name);
	TRY(ghost_find(entry->reg->id, restore, &is_ghost, &ghost_id));
	return is_ghost ? ghost_verify(entry->reg) : verify(entry->reg, restore, &stat);
}

static struct error *verify_all(struct restore_files *restore, bool written_only)
{
	size_t count = image_count(restore_store(restore), IMAGE_FILES, 0);
	struct error *lines = NULL;
	size_t faults = 0;

	for (size_t i = 0; i < count; i++) {
		struct error *error = verify_entry(restore, i, written_only);

		faults += error != NULL;
		lines = error_join(lines, error);
	}
	return error_wrap(lines, "%zu of the files that the program has are missing or different here", faults);
}

struct error *reg_files_verify(struct restore_files *restore)
{
	return verify_all(restore, false);
}

struct error *reg_files_verify_written(struct restore_files *restore)
{
	return verify_all(restore, true);
}
