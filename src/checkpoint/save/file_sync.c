/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/save/file_sync.h"
#include "util/alloc.h"
#include "util/number_map.h"

enum { COARSE_SECONDS = 2 };

/* linux/magic.h, and what is out of it, as statfs(2) has them. */
static const uint32_t remote_types[] = {
	0x00006969, /* NFS */
	0x0000517b, /* SMB */
	0xff534d42, /* CIFS */
	0xfe534d42, /* SMB2 */
	0x00c36400, /* Ceph */
	0x5346414f, /* AFS */
	0x6b414653, /* AFS, of the kernel */
	0x73757245, /* Coda */
	0x0000564c, /* NCP */
	0x01021997, /* 9P: of virtual machines, too */
	0x65735546, /* FUSE: sshfs, GlusterFS, s3fs, virtiofs */
	0x7461636f, /* OCFS2 */
	0x01161970, /* GFS2 */
	0x0bd00bd0, /* Lustre */
	0x20030528, /* OrangeFS */
	0x47504653, /* GPFS */
	0x786f4256, /* shared folders of VirtualBox */
};

bool file_sync_is_remote(uint64_t file_system_type)
{
	for (size_t i = 0; i < sizeof(remote_types) / sizeof(remote_types[0]); i++)
		if ((uint32_t)file_system_type == remote_types[i])
			return true;
	return false;
}

/* As the file was when it was last forced. */
struct stamp {
	struct timespec written;
	off_t size_bytes;
	time_t forced_at; /* CLOCK_REALTIME; 0: never */
};

struct file_sync {
	struct number_map *devices; /* owned: is what is on this device remote? */
	struct number_map *indices; /* owned: of stamps, by inode and device */
	struct stamp *stamps;       /* owned */
	size_t stamp_count;
};

struct file_sync *file_sync_new(void)
{
	struct file_sync *sync = xalloc(sizeof(*sync));

	sync->devices = number_map_new();
	sync->indices = number_map_new();
	return sync;
}

void file_sync_free(struct file_sync *sync)
{
	if (!sync)
		return;
	number_map_free(sync->devices);
	number_map_free(sync->indices);
	free(sync->stamps);
	free(sync);
}

/* Asks once for each device; of one that is local nothing is asked any more, not even for a descriptor. */
static bool is_known_local(const struct file_sync *sync, uint64_t device)
{
	uint64_t is_remote = 1;

	return number_map_find(sync->devices, device, 0, &is_remote) && !is_remote;
}

static bool is_remote(struct file_sync *sync, uint64_t device, int fd)
{
	struct statfs file_system;
	uint64_t known = 0;

	if (number_map_find(sync->devices, device, 0, &known))
		return known;
	known = fstatfs(fd, &file_system) == 0 && file_sync_is_remote((uint64_t)file_system.f_type);
	number_map_add(sync->devices, device, 0, known);
	return known;
}

static struct stamp *stamp_of(struct file_sync *sync, const struct stat *stat)
{
	uint64_t index;

	if (!number_map_find(sync->indices, stat->st_ino, stat->st_dev, &index)) {
		index = sync->stamp_count++;
		sync->stamps = xrealloc(sync->stamps, sync->stamp_count * sizeof(*sync->stamps));
		sync->stamps[index] = (struct stamp){.forced_at = 0};
		number_map_add(sync->indices, stat->st_ino, stat->st_dev, index);
	}
	return &sync->stamps[index];
}

static bool is_forced(const struct stamp *stamp, const struct stat *stat)
{
	return stamp->forced_at > stat->st_mtim.tv_sec + COARSE_SECONDS && stamp->size_bytes == stat->st_size &&
	       stamp->written.tv_sec == stat->st_mtim.tv_sec && stamp->written.tv_nsec == stat->st_mtim.tv_nsec;
}

/* device names what fd's file system is known by: the caller's number for it. */
static struct error *force(struct file_sync *sync, uint64_t device, int fd, const char *name)
{
	struct timespec now;
	struct stat stat;

	if (!is_remote(sync, device, fd))
		return NULL;
	clock_gettime(CLOCK_REALTIME, &now);
	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat(%s)", name);
	struct stamp *stamp = stamp_of(sync, &stat);
	if (is_forced(stamp, &stat))
		return NULL;
	if (fsync(fd) < 0)
		return error_hint(
			error_new(errno, "fsync(%s)", name),
			"what the program has written there must reach the server before it goes on elsewhere");
	*stamp = (struct stamp){
		.written = stat.st_mtim,
		.size_bytes = stat.st_size,
		.forced_at = now.tv_sec,
	};
	return NULL;
}

static struct error *force_open(const struct open_file *file, void *data)
{
	struct file_sync *sync = data;
	int fd;

	if (!S_ISREG(file->stat.st_mode) || file->status_flags & O_PATH ||
	    (file->status_flags & O_ACCMODE) == O_RDONLY || is_known_local(sync, file->stat.st_dev))
		return NULL;
	TRY(open_file_borrow(file, &fd));
	return force(sync, file->stat.st_dev, fd, file->link);
}

static struct error *force_mapped(struct file_sync *sync, pid_t pid, const struct area *area)
{
	if (area->trouble || !(area->entry.status & AREA_FILE_SHARED) || !area->may_write || area_maps_memfd(area) ||
	    is_known_local(sync, area->device))
		return NULL;
	auto_free char *source =
		xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, area->vma_start, area->vma_end);
	auto_fd int fd = open(source, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) /* unmapped meanwhile, or a device */
		return errno == ENOENT || errno == ENXIO || errno == ENODEV
		               ? NULL
		               : error_new(errno, "open what is mapped: %s", area->path ? area->path : source);
	return force(sync, area->device, fd, area->path ? area->path : source);
}

struct error *file_sync_open(struct file_sync *sync, const struct file_table *files)
{
	return file_table_each(files, FD_TYPES__REG, force_open, sync);
}

struct error *file_sync_mapped(struct file_sync *sync, pid_t pid, const struct areas *areas)
{
	for (size_t i = 0; i < areas->count; i++)
		TRY(force_mapped(sync, pid, &areas->list[i]));
	return NULL;
}
