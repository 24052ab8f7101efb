/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * fuse_disk FOLDER BACKING: mounts a file system with one file, "file", on FOLDER. What is written there waits in memory
 * until it is forced out, as on file systems of the network, and is in BACKING then. Each fsync(2) adds a letter to
 * BACKING.forced. Ends when it is unmounted.
 *
 * The protocol is that of linux/fuse.h.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILE_NODE = 2, WRITE_BYTES_MAX = 128 << 10, REQUEST_BYTES_MAX = WRITE_BYTES_MAX + 4096 };

struct disk {
	int fuse, backing, forced;
};

static void answer(const struct disk *disk, const struct fuse_in_header *request, int error, void *bytes, size_t size)
{
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + size),
		.error = -error,
		.unique = request->unique,
	};
	const struct iovec parts[2] = {{&header, sizeof(header)}, {bytes, size}};

	/* ENOENT: whoever asked has gone. */
	if (writev(disk->fuse, parts, 2) < 0 && errno != ENOENT)
		err(1, "answer to request %u", request->opcode);
}

static struct fuse_attr attributes(const struct disk *disk, uint64_t node)
{
	struct stat stat = {0};

	if (node == FUSE_ROOT_ID)
		return (struct fuse_attr){.ino = node, .mode = S_IFDIR | 0755, .nlink = 2};
	fstat(disk->backing, &stat);
	return (struct fuse_attr){
		.ino = node,
		.size = (uint64_t)stat.st_size,
		.mtime = (uint64_t)stat.st_mtim.tv_sec,
		.mtimensec = (uint32_t)stat.st_mtim.tv_nsec,
		.mode = S_IFREG | 0644,
		.nlink = 1,
	};
}

static void answer_init(const struct disk *disk, const struct fuse_in_header *request, const struct fuse_init_in *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = (FUSE_WRITEBACK_CACHE | FUSE_BIG_WRITES) & in->flags,
		.max_background = 8,
		.congestion_threshold = 8,
		.max_write = WRITE_BYTES_MAX,
	};

	answer(disk, request, 0, &out, sizeof(out));
}

static void answer_lookup(const struct disk *disk, const struct fuse_in_header *request, const char *name)
{
	struct fuse_entry_out out = {.nodeid = FILE_NODE, .attr = attributes(disk, FILE_NODE)};

	if (strcmp(name, "file") != 0)
		answer(disk, request, ENOENT, NULL, 0);
	else
		answer(disk, request, 0, &out, sizeof(out));
}

static void answer_attributes(const struct disk *disk, const struct fuse_in_header *request)
{
	struct fuse_attr_out out = {.attr_valid = 1, .attr = attributes(disk, request->nodeid)};

	answer(disk, request, 0, &out, sizeof(out));
}

static void answer_read(const struct disk *disk, const struct fuse_in_header *request, const struct fuse_read_in *in)
{
	static char bytes[WRITE_BYTES_MAX];
	size_t size = in->size < sizeof(bytes) ? in->size : sizeof(bytes);
	ssize_t count = pread(disk->backing, bytes, size, (off_t)in->offset);

	answer(disk, request, count < 0 ? errno : 0, bytes, count < 0 ? 0 : (size_t)count);
}

static void answer_write(const struct disk *disk, const struct fuse_in_header *request, const struct fuse_write_in *in)
{
	struct fuse_write_out out = {.size = in->size};

	if (pwrite(disk->backing, in + 1, in->size, (off_t)in->offset) != (ssize_t)in->size)
		answer(disk, request, errno, NULL, 0);
	else
		answer(disk, request, 0, &out, sizeof(out));
}

static void serve(const struct disk *disk, const struct fuse_in_header *request)
{
	struct fuse_open_out opened = {0};
	struct fuse_statfs_out full = {{.bsize = 4096, .namelen = 255}};
	const void *body = request + 1;

	switch (request->opcode) {
	case FUSE_INIT:
		answer_init(disk, request, body);
		break;
	case FUSE_LOOKUP:
		answer_lookup(disk, request, body);
		break;
	case FUSE_SETATTR:
		if (((const struct fuse_setattr_in *)body)->valid & FATTR_SIZE &&
		    ftruncate(disk->backing, (off_t)((const struct fuse_setattr_in *)body)->size) < 0)
			err(1, "ftruncate");
		answer_attributes(disk, request);
		break;
	case FUSE_GETATTR:
		answer_attributes(disk, request);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		answer(disk, request, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		answer_read(disk, request, body);
		break;
	case FUSE_WRITE:
		answer_write(disk, request, body);
		break;
	case FUSE_STATFS:
		answer(disk, request, 0, &full, sizeof(full));
		break;
	case FUSE_READDIR:
	case FUSE_FSYNC:
		if (write(disk->forced, "f", 1) != 1)
			err(1, "note of an fsync");
		answer(disk, request, 0, NULL, 0);
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		answer(disk, request, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: /* of which none is answered */
		break;
	default:
		answer(disk, request, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static char request[REQUEST_BYTES_MAX] __attribute__((aligned(8)));
	char options[128];
	char forced[4096];

	if (argc != 3)
		errx(2, "usage: fuse_disk FOLDER BACKING");
	snprintf(forced, sizeof(forced), "%s.forced", argv[2]);
	const struct disk disk = {
		.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC),
		.backing = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0644),
		.forced = open(forced, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644),
	};
	if (disk.fuse < 0 || disk.backing < 0 || disk.forced < 0)
		err(1, "/dev/fuse or %s", argv[2]);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", disk.fuse);
	if (mount("disk", argv[1], "fuse.disk", MS_NODEV | MS_NOSUID, options) < 0)
		err(1, "mount on %s", argv[1]);
	for (;;) {
		ssize_t count = read(disk.fuse, request, sizeof(request));

		if (count < 0 && errno == ENODEV)
			return 0;
		if (count < (ssize_t)sizeof(struct fuse_in_header) && errno != EINTR && errno != ENOENT)
			err(1, "read of a request");
		if (count > 0)
			serve(&disk, (const struct fuse_in_header *)request);
	}
}
