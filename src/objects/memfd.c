/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * memfd_create(2): a file without a place, of ordinary or of huge pages.
 *
 * Carried: name, size, seals, owner, mode; of each descriptor position and flags; who shares it with whom, descriptors
 * and mappings. Saved from outside, restored in the coordinator. The content goes another way: see memfd.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "objects/memfd.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/procfs.h"
#include "util/uapi.h"

enum {
	NAME_BYTES_MAX = 249,        /* memfd_create(2) */
	HUGETLBFS_TYPE = 0x958458f6, /* statfs(2) */
	ORDINARY_PAGE_BYTES = 4096,
};

static const char prefix[] = "/memfd:";
static const char suffix[] = " (deleted)";

/* ---- Saving ---- */

/* The name between what the kernel puts around it. False: that isn't there. */
static bool find_name(const char *link, const char **ret_name, size_t *ret_length)
{
	size_t length = strlen(link);
	size_t around = sizeof(prefix) - 1 + sizeof(suffix) - 1;

	if (length < around || strncmp(link, prefix, sizeof(prefix) - 1) != 0 ||
	    strcmp(link + length - (sizeof(suffix) - 1), suffix) != 0)
		return false;
	*ret_name = link + sizeof(prefix) - 1;
	*ret_length = length - around;
	return true;
}

/* Deleted files of a file system that is mounted at "/" may have that name, too. */
static bool is_on_kernels_own(const struct stat *stat)
{
	auto_fd int fd = memfd_create("godwit", MFD_CLOEXEC);
	struct stat own;

	return fd >= 0 && fstat(fd, &own) == 0 && own.st_dev == stat->st_dev;
}

/* Huge pages are on mounts of their own, one for each size, which are on top of nothing. */
static bool has_huge_pages(const struct stat *stat)
{
	return stat->st_nlink == 0 && stat->st_blksize > ORDINARY_PAGE_BYTES;
}

static bool memfd_recognizes(const struct open_file *file)
{
	const char *name;
	size_t length;

	return S_ISREG(file->stat.st_mode) && find_name(file->link, &name, &length) &&
	       (is_on_kernels_own(&file->stat) || has_huge_pages(&file->stat));
}

static uint32_t hugetlb_flag(const struct stat *stat)
{
	if (stat->st_blksize <= ORDINARY_PAGE_BYTES)
		return 0;
	return MFD_HUGETLB | (uint32_t)__builtin_ctzl((unsigned long)stat->st_blksize) << MFD_HUGE_SHIFT;
}

static struct error *put_inode(const char *source, const struct stat *stat, uint32_t inode_id,
                               struct image_store *store)
{
	MemfdInodeEntry inode = MEMFD_INODE_ENTRY__INIT;
	char link[sizeof(prefix) + NAME_BYTES_MAX + sizeof(suffix)] = "";
	char own_name[NAME_BYTES_MAX + 1] = "";
	const char *name;
	size_t length;
	auto_fd int fd = open(source, O_RDONLY | O_CLOEXEC | O_NOATIME);

	if (fd < 0)
		return error_new(errno, "open(%s)", source);
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return error_new(errno, "fcntl(F_GET_SEALS)");
	if (readlink(source, link, sizeof(link) - 1) < 0 || !find_name(link, &name, &length))
		return error_new(EPROTO, "%s leads to %s", source, link);
	memcpy(own_name, name, length);

	inode.name = own_name;
	inode.uid = stat->st_uid;
	inode.gid = stat->st_gid;
	inode.size = (uint64_t)stat->st_size;
	inode.shmid = (uint32_t)stat->st_ino;
	inode.seals = (uint32_t)seals;
	inode.inode_id = inode_id;
	inode.has_hugetlb_flag = stat->st_blksize > ORDINARY_PAGE_BYTES;
	inode.hugetlb_flag = hugetlb_flag(stat);
	inode.has_mode = true;
	inode.mode = stat->st_mode;
	image_put(store, IMAGE_MEMFD, 0, &inode.base);
	return NULL;
}

struct error *memfd_put(const struct memfd *memfd, struct image_store *store)
{
	MemfdFileEntry file = MEMFD_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	FownEntry nobody = FOWN_ENTRY__INIT;
	struct stat now;

	/* The size is as of now. */
	if (stat(memfd->source, &now) < 0)
		return error_new(errno, "stat(%s)", memfd->source);
	if (now.st_ino > UINT32_MAX)
		return error_new(EOVERFLOW, "inode %ju of a memfd", (uintmax_t)now.st_ino);
	if (open_files_first(memfd->all, FD_TYPES__MEMFD, now.st_ino, now.st_dev, &file.inode_id))
		TRY(put_inode(memfd->source, &now, file.inode_id, store));
	file.id = memfd->id;
	file.flags = memfd->flags;
	file.pos = memfd->pos;
	file.fown = memfd->owner ? memfd->owner : &nobody;
	entry.type = FD_TYPES__MEMFD;
	entry.id = memfd->id;
	entry.memfd = &file;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static struct error *memfd_check(const struct open_file *file)
{
	pid_t other = open_files_outsider(file->all, &file->stat);

	if (!other)
		return NULL;
	return error_hint(error_new(ENOTSUP, "process %d has this memfd, too", other),
	                  "that process stays here: end it first, or have a process carried that both descend from");
}

static struct error *memfd_save(const struct open_file *file, struct image_store *store)
{
	auto_free char *source = xformat("/proc/%d/fd/%d", file->pid, file->fd);
	struct memfd memfd = {
		.id = file->id,
		.source = source,
		.flags = file->status_flags,
		.owner = file->owner,
		.all = file->all,
	};

	int r = procfs_number(file->fdinfo, "pos", 10, &memfd.pos);
	if (r < 0)
		return error_new(-r, "pos in fdinfo");
	return memfd_put(&memfd, store);
}

/* ---- Restoring ---- */

/* vm.memfd_noexec may forbid the one and the kernel may not know the other (before Linux 6.3): proc_sys_vm(5). */
static int create(const MemfdInodeEntry *inode, unsigned flags)
{
	bool is_executable = !inode->has_mode || inode->mode & 0111 || !(inode->seals & UAPI_F_SEAL_EXEC);
	int fd = memfd_create(inode->name, flags | (is_executable ? UAPI_MFD_EXEC : UAPI_MFD_NOEXEC_SEAL));

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(inode->name, flags);
	return fd < 0 ? negative_errno() : fd;
}

struct error *memfd_make(const MemfdInodeEntry *inode, int *ret_fd)
{
	const uint32_t sizes = (uint32_t)MFD_HUGE_MASK << MFD_HUGE_SHIFT;
	uint32_t huge = inode->has_hugetlb_flag ? inode->hugetlb_flag & (MFD_HUGETLB | sizes) : 0;

	if (strlen(inode->name) > NAME_BYTES_MAX)
		return error_new(EBADMSG, "memfd with a name of %zu bytes", strlen(inode->name));
	int fd = create(inode, MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
	if (fd < 0)
		return error_new(-fd, "memfd_create(%s, %#x)", inode->name, huge);
	*ret_fd = fd;
	return NULL;
}

struct error *memfd_seal(const MemfdInodeEntry *inode, int fd)
{
	int there = fcntl(fd, F_GET_SEALS);

	/* Changing the owner takes set-user-ID away: the mode comes behind it. chown(2) */
	if (fchown(fd, inode->uid, inode->gid) < 0)
		return error_new(errno, "memfd %s: fchown(%u, %u)", inode->name, inode->uid, inode->gid);
	if (inode->has_mode && fchmod(fd, inode->mode & 07777) < 0)
		return error_new(errno, "memfd %s: fchmod(%o)", inode->name, inode->mode & 07777);
	if (there == (int)inode->seals)
		return NULL;
	if (fcntl(fd, F_ADD_SEALS, inode->seals) < 0)
		return error_new(errno, "memfd %s: fcntl(F_ADD_SEALS, %#x)", inode->name, inode->seals);
	return NULL;
}

void memfd_give(struct restore_files *restore, uint32_t shmid, int fd)
{
	restore_spare_give(restore, FD_TYPES__MEMFD, shmid, fd);
}

static void inode_free(MemfdInodeEntry *inode)
{
	if (inode)
		memfd_inode_entry__free_unpacked(inode, NULL);
}
DEFINE_OWNED(MemfdInodeEntry *, inode_free)

static uint64_t inode_key(const ProtobufCMessage *message)
{
	return ((const MemfdInodeEntry *)message)->inode_id;
}

static struct error *open_inode(uint32_t inode_id, uint32_t flags, struct restore_files *restore, int *ret_fd)
{
	static const uint32_t kept = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_PATH | O_LARGEFILE;
	AUTO(inode_free) MemfdInodeEntry *inode = NULL;
	size_t index;
	bool is_found;

	TRY(restore_find(restore, IMAGE_MEMFD, inode_key, inode_id, &is_found, &index));
	if (!is_found)
		return error_new(EBADMSG, "memfd %u isn't in memfd.img", inode_id);
	TRY(image_get(restore_store(restore), IMAGE_MEMFD, 0, index, (ProtobufCMessage **)&inode));
	auto_free char *path =
		xformat("/proc/self/fd/%d", restore_spare_borrow(restore, FD_TYPES__MEMFD, inode->shmid));
	int fd = open(path, (int)(flags & kept) | O_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "open memfd %s with flags %#o", inode->name, flags);
	*ret_fd = fd;
	return NULL;
}

static void entry_free(FileEntry *entry)
{
	if (entry)
		file_entry__free_unpacked(entry, NULL);
}
DEFINE_OWNED(FileEntry *, entry_free)

struct error *memfd_open_id(uint32_t id, uint32_t flags, struct restore_files *restore, int *ret_fd)
{
	AUTO(entry_free) FileEntry *entry = NULL;

	TRY(restore_file_entry(restore, id, &entry));
	if (entry->type != FD_TYPES__MEMFD || !entry->memfd)
		return error_new(EBADMSG, "file %#x in files.img is no memfd", id);
	return open_inode(entry->memfd->inode_id, flags, restore, ret_fd);
}

static struct error *memfd_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                   struct made_file *ret_made)
{
	const MemfdFileEntry *memfd = entry->memfd;
	auto_fd int fd = -1;

	(void)batch;
	if (!memfd)
		return error_new(EBADMSG, "file entry of type MEMFD without a memfd");
	TRY(open_inode(memfd->inode_id, memfd->flags, restore, &fd));
	if (memfd->pos > 0 && !(memfd->flags & O_PATH) && lseek(fd, (off_t)memfd->pos, SEEK_SET) < 0)
		return error_new(errno, "lseek to %llu", (unsigned long long)memfd->pos);
	*ret_made = (struct made_file){
		.local_fd = take(fd),
		.status_flags = memfd->flags,
		.owner = memfd->fown,
	};
	return NULL;
}

const struct file_ops memfd_ops = {
	.name = "memfd",
	.type = FD_TYPES__MEMFD,
	.recognizes = memfd_recognizes,
	.check = memfd_check,
	.save = memfd_save,
	.restore = memfd_restore,
};
