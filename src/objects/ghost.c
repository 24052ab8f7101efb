/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/sysmacros.h>

#include "ghost-file.pb-c.h"
#include "objects/content.h"
#include "objects/ghost.h"
#include "remap-file-path.pb-c.h"
#include "util/alloc.h"

/* The bit that O_TMPFILE has of its own: the rest of it is O_DIRECTORY. */
static const uint32_t tmpfile_flag = O_TMPFILE & ~O_DIRECTORY;

struct error *ghost_check(const struct reg_file *file, const struct stat *stat)
{
	/* Only what is stored counts: a sparse file is as large as its data. */
	uint64_t data_bytes = (uint64_t)stat->st_blocks * 512;

	if (stat->st_nlink > 0 && !S_ISDIR(stat->st_mode))
		return error_hint(
			error_new(0, "it was deleted, but has %ju other names (hard links)", (uintmax_t)stat->st_nlink),
			"Which names those are can't be told. Make one at the old path with ln(1)");
	if (!S_ISREG(stat->st_mode) && !S_ISDIR(stat->st_mode) && !S_ISFIFO(stat->st_mode))
		return error_new(0, "it was deleted and is neither a file nor a folder nor a named pipe");
	if (S_ISREG(stat->st_mode) && data_bytes > file->ghost_limit_bytes)
		return error_hint(
			error_new(EFBIG, "it was deleted and has %" PRIu64 " bytes, more than the %" PRIu64 " allowed",
		                  data_bytes, file->ghost_limit_bytes),
			"--ghost-limit %" PRIu64 " allows it", data_bytes);
	return NULL;
}

/* As the kernel writes a device into 32 bits. */
static uint32_t device_number(dev_t dev)
{
	return major(dev) << 20 | minor(dev);
}

static Timeval timeval_of(const struct timespec *time)
{
	Timeval timeval = TIMEVAL__INIT;

	timeval.tv_sec = (uint64_t)time->tv_sec;
	timeval.tv_usec = (uint64_t)time->tv_nsec / 1000;
	return timeval;
}

/* Our reading is no access by the program. Who owns the file may ask for that: open(2). */
static int open_unnoticed(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOATIME);

	return fd < 0 && errno == EPERM ? open(path, O_RDONLY | O_CLOEXEC) : fd;
}

static struct error *put_content(const struct reg_file *file, const struct stat *stat, uint32_t ghost_id,
                                 struct image_store *store)
{
	GhostFileEntry ghost = GHOST_FILE_ENTRY__INIT;
	Timeval accessed = timeval_of(&stat->st_atim);
	Timeval modified = timeval_of(&stat->st_mtim);

	ghost.uid = stat->st_uid;
	ghost.gid = stat->st_gid;
	ghost.mode = stat->st_mode;
	ghost.has_dev = true;
	ghost.dev = device_number(stat->st_dev);
	ghost.has_ino = true;
	ghost.ino = stat->st_ino;
	ghost.atim = &accessed;
	ghost.mtim = &modified;
	ghost.has_chunks = true;
	ghost.chunks = S_ISREG(stat->st_mode);
	ghost.has_size = ghost.chunks;
	ghost.size = (uint64_t)stat->st_size;
	image_put(store, IMAGE_GHOST_FILE, ghost_id, &ghost.base);
	if (!ghost.chunks)
		return NULL;

	auto_fd int fd = open_unnoticed(file->source);
	if (fd < 0)
		return error_new(errno, "open(%s)", file->source);
	return content_save(fd, store, IMAGE_GHOST_FILE, ghost_id);
}

struct error *ghost_put(const struct reg_file *file, const struct stat *stat, struct image_store *store)
{
	RemapFilePathEntry remap = REMAP_FILE_PATH_ENTRY__INIT;
	uint32_t ghost_id;

	TRY(ghost_check(file, stat));
	if (open_files_first(file->all, FD_TYPES__REG, stat->st_ino, stat->st_dev, &ghost_id))
		TRY(put_content(file, stat, ghost_id, store));

	remap.orig_id = file->id;
	remap.remap_id = ghost_id;
	remap.has_remap_type = true;
	remap.remap_type = REMAP_TYPE__GHOST;
	image_put(store, IMAGE_REMAP_FPATH, 0, &remap.base);
	return NULL;
}

static void remap_free(RemapFilePathEntry *remap)
{
	if (remap)
		remap_file_path_entry__free_unpacked(remap, NULL);
}
DEFINE_OWNED(RemapFilePathEntry *, remap_free)

static uint64_t remap_key(const ProtobufCMessage *message)
{
	return ((const RemapFilePathEntry *)message)->orig_id;
}

struct error *ghost_find(uint32_t file_id, struct restore_files *restore, bool *ret_is_ghost, uint32_t *ret_ghost_id)
{
	AUTO(remap_free) RemapFilePathEntry *remap = NULL;
	size_t index;

	TRY(restore_find(restore, IMAGE_REMAP_FPATH, remap_key, file_id, ret_is_ghost, &index));
	if (!*ret_is_ghost)
		return NULL;
	TRY(image_get(restore_store(restore), IMAGE_REMAP_FPATH, 0, index, (ProtobufCMessage **)&remap));
	if (!remap->has_remap_type || remap->remap_type != REMAP_TYPE__GHOST)
		return error_new(ENOTSUP, "remap of type %d", (int)remap->remap_type);
	*ret_ghost_id = remap->remap_id;
	return NULL;
}

/* A name for the moment between making and deleting it: the old one, so that /proc shows the same afterwards, but if
 * somebody else has that name now, another beside it. */
static struct error *make_named(const char *path, mode_t mode, int *ret_fd)
{
	mode_t access = S_ISDIR(mode) ? 0700 : 0600;
	int r;

	if (S_ISDIR(mode))
		r = mkdir(path, access);
	else
		r = mknod(path, (mode & S_IFMT) | access, 0); /* a regular file or a named pipe; never an old one */
	if (r < 0)
		return error_new(errno, "make %s, to delete it again", path);

	/* A named pipe that is open for both never waits for the other end: fifo(7). */
	int fd = open(path, (S_ISDIR(mode) ? O_RDONLY | O_DIRECTORY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC);
	int open_errno = errno;
	if (S_ISDIR(mode))
		rmdir(path);
	else
		unlink(path);
	if (fd < 0)
		return error_new(open_errno, "open(%s)", path);
	*ret_fd = fd;
	return NULL;
}

/* Files of O_TMPFILE, which may get a name yet: linkat(2). The kernel calls them #INODE. */
static bool is_nameless(const RegFileEntry *entry, const GhostFileEntry *ghost)
{
	auto_free char *name = xformat("/#%" PRIu64, ghost->ino);
	size_t start = strlen(entry->name) - strlen(name);

	return entry->flags & tmpfile_flag ||
	       (ghost->has_ino && strlen(entry->name) > strlen(name) && strcmp(entry->name + start, name) == 0);
}

/* Of an absolute path. The caller frees. */
static char *folder_of(const char *path)
{
	int length = (int)(strrchr(path, '/') - path);

	return length == 0 ? xformat("/") : xformat("%.*s", length, path);
}

static struct error *make_nameless(const char *path, int *ret_fd)
{
	auto_free char *folder = folder_of(path);

	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_new(errno, "open(%s, O_TMPFILE)", folder);
	*ret_fd = fd;
	return NULL;
}

static struct error *make(const RegFileEntry *entry, const GhostFileEntry *ghost, int *ret_fd)
{
	struct stat stat;

	if (S_ISREG(ghost->mode) && is_nameless(entry, ghost))
		return make_nameless(entry->name, ret_fd);
	if (lstat(entry->name, &stat) < 0)
		return make_named(entry->name, ghost->mode, ret_fd);

	auto_free char *beside = xformat("%s.godwit-%" PRIx64, entry->name, ghost->ino);
	return make_named(beside, ghost->mode, ret_fd);
}

/* The bytes behind the first message, or in chunks behind further ones. */
static struct error *fill(const GhostFileEntry *ghost, uint32_t ghost_id, const struct image_store *store, int fd)
{
	const uint8_t *bytes;
	size_t size_bytes;

	image_get_bytes(store, IMAGE_GHOST_FILE, ghost_id, 0, &bytes, &size_bytes);
	uint64_t file_bytes = ghost->chunks ? ghost->size : size_bytes;
	if (file_bytes > INT64_MAX)
		return error_new(EBADMSG, "size %" PRIu64, file_bytes);
	if (ftruncate(fd, (off_t)file_bytes) < 0)
		return error_new(errno, "ftruncate(%" PRIu64 ")", file_bytes);
	TRY(content_write(fd, bytes, size_bytes, 0));
	return content_restore(store, IMAGE_GHOST_FILE, ghost_id, 1, fd);
}

static struct timespec timespec_of(const Timeval *time)
{
	if (!time || time->tv_usec > 999999)
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)time->tv_sec, .tv_nsec = (long)time->tv_usec * 1000};
}

static struct error *set_attributes(const GhostFileEntry *ghost, int fd)
{
	const struct timespec times[] = {timespec_of(ghost->atim), timespec_of(ghost->mtim)};

	/* Changing the owner takes set-user-ID away: the mode comes behind it. chown(2) */
	if (fchown(fd, ghost->uid, ghost->gid) < 0)
		return error_new(errno, "fchown(%u, %u)", ghost->uid, ghost->gid);
	if (fchmod(fd, ghost->mode & 07777) < 0)
		return error_new(errno, "fchmod(%o)", ghost->mode & 07777);
	if (futimens(fd, times) < 0)
		return error_new(errno, "futimens");
	return NULL;
}

static void ghost_free(GhostFileEntry *ghost)
{
	if (ghost)
		ghost_file_entry__free_unpacked(ghost, NULL);
}
DEFINE_OWNED(GhostFileEntry *, ghost_free)

/* Which deleted file it is. Images of old CRIUs don't tell: then by the number that it has in this image. */
static uint64_t ghost_inode(const GhostFileEntry *ghost, uint32_t ghost_id)
{
	return ghost->has_ino ? ghost->ino : ghost_id;
}

static uint64_t ghost_device(const GhostFileEntry *ghost)
{
	return ghost->has_ino ? (uint64_t)ghost->dev : UINT64_MAX;
}

static struct error *restore_ghost(uint32_t ghost_id, const RegFileEntry *entry, const GhostFileEntry *ghost,
                                   const struct image_store *store, int *ret_fd)
{
	auto_fd int fd = -1;

	if (!S_ISREG(ghost->mode) && !S_ISDIR(ghost->mode) && !S_ISFIFO(ghost->mode))
		return error_new(ENOTSUP, "deleted file of mode %o", ghost->mode);
	TRY(make(entry, ghost, &fd));
	if (S_ISREG(ghost->mode))
		TRY(fill(ghost, ghost_id, store, fd));
	TRY(set_attributes(ghost, fd));
	*ret_fd = take(fd);
	return NULL;
}

struct error *ghost_open(uint32_t ghost_id, const RegFileEntry *entry, uint32_t flags, struct restore_files *restore,
                         int *ret_fd)
{
	AUTO(ghost_free) GhostFileEntry *ghost = NULL;
	struct stat stat;

	TRY(image_get(restore_store(restore), IMAGE_GHOST_FILE, ghost_id, 0, (ProtobufCMessage **)&ghost));
	int first = restore_ghost_borrow(restore, ghost_inode(ghost, ghost_id), ghost_device(ghost));
	if (first < 0) {
		TRY(restore_ghost(ghost_id, entry, ghost, restore_store(restore), &first));
		restore_ghost_give(restore, ghost_inode(ghost, ghost_id), ghost_device(ghost), first);
	}
	if (fstat(first, &stat) == 0 && S_ISFIFO(stat.st_mode))
		flags |= O_NONBLOCK; /* as in reg_file.c */
	auto_free char *path = xformat("/proc/self/fd/%d", first);
	int fd = open(path, (int)flags & ~O_NOFOLLOW);
	if (fd < 0)
		return error_new(errno, "open it again with flags %#o", flags);
	*ret_fd = fd;
	return NULL;
}

/* Holes first: what was there and is nothing any more. Cutting it off would take private copies of pages away. */
static struct error *refill(const GhostFileEntry *ghost, uint32_t ghost_id, const struct image_store *store, int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat");
	if (stat.st_size > 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, stat.st_size) < 0 &&
	    ftruncate(fd, 0) < 0)
		return error_new(errno, "empty the file");
	TRY(fill(ghost, ghost_id, store, fd));
	return set_attributes(ghost, fd);
}

static struct error *refresh(uint32_t ghost_id, struct restore_files *restore)
{
	AUTO(ghost_free) GhostFileEntry *ghost = NULL;

	TRY(image_get(restore_store(restore), IMAGE_GHOST_FILE, ghost_id, 0, (ProtobufCMessage **)&ghost));
	int fd = restore_ghost_borrow(restore, ghost_inode(ghost, ghost_id), ghost_device(ghost));
	if (fd < 0 || !S_ISREG(ghost->mode))
		return NULL;
	return refill(ghost, ghost_id, restore_store(restore), fd);
}

struct error *ghosts_refresh(struct restore_files *restore)
{
	const struct image_store *store = restore_store(restore);

	for (size_t i = 0; i < image_count(store, IMAGE_REMAP_FPATH, 0); i++) {
		AUTO(remap_free) RemapFilePathEntry *remap = NULL;

		TRY(image_get(store, IMAGE_REMAP_FPATH, 0, i, (ProtobufCMessage **)&remap));
		if (remap->has_remap_type && remap->remap_type == REMAP_TYPE__GHOST)
			TRY(refresh(remap->remap_id, restore), "deleted file %#x", remap->remap_id);
	}
	return NULL;
}

struct error *ghost_verify(const RegFileEntry *entry)
{
	auto_free char *folder = folder_of(entry->name);
	struct stat stat;

	if (lstat(folder, &stat) == 0 && S_ISDIR(stat.st_mode))
		return NULL;
	return error_hint(error_new(0, "%s: deleted, and the folder it was in is not here", entry->name),
	                  "mkdir -p '%s'", folder);
}
