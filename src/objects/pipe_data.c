/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "objects/file_extra.h"
#include "objects/pipe_data.h"
#include "pipe-data.pb-c.h"
#include "util/alloc.h"

static enum image_kind kind_of(FdTypes type)
{
	return type == FD_TYPES__PIPE ? IMAGE_PIPES_DATA : IMAGE_FIFO_DATA;
}

struct error *pipe_check_ends(const struct open_file *file)
{
	pid_t pid = open_files_outsider(file->all, &file->stat);

	if (!pid)
		return NULL;
	auto_free char *process = open_files_process_text(pid);
	return error_hint(error_new(0, "also open in process %s", process),
	                  "a pipe is carried with both ends or not at all; start the program with its input and output "
	                  "from and to files: PROG </dev/null >LOG 2>&1");
}

/* ---- Saving ---- */

static bool is_same_pipe(const struct open_file *a, const struct open_file *b)
{
	return a->stat.st_ino == b->stat.st_ino && a->stat.st_dev == b->stat.st_dev;
}

/* Whether what is written now makes packets. */
static bool has_packet_mode(const struct open_file *file)
{
	for (size_t i = 0; i < file->all->count; i++)
		if (is_same_pipe(&file->all->list[i], file) && file->all->list[i].status_flags & O_DIRECT)
			return true;
	return false;
}

/* A pipe with the same content: tee(2) takes nothing out. */
static struct error *copy_pipe(int fd, size_t size_bytes, int capacity_bytes, int *ret_copy)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_new(errno, "pipe2");
	auto_fd int reader = ends[0];
	auto_fd int writer = ends[1];
	if (fcntl(writer, F_SETPIPE_SZ, capacity_bytes) < 0)
		return error_new(errno, "F_SETPIPE_SZ(%d)", capacity_bytes);
	ssize_t count = tee(fd, writer, size_bytes, SPLICE_F_NONBLOCK);
	if (count < 0)
		return error_new(errno, "tee");
	if ((size_t)count != size_bytes)
		return error_new(EIO, "tee gave %zd of %zu bytes", count, size_bytes);
	*ret_copy = take(reader);
	return NULL;
}

/* A read ends where a packet ends, and else takes all there is: pipe(2). */
static struct error *put_content(int copy, size_t size_bytes, enum image_kind kind, struct image_store *store,
                                 uint32_t *packet_bytes, size_t *ret_packets)
{
	size_t packets = 0;

	auto_free uint8_t *buffer = malloc(size_bytes);

	if (!buffer)
		return error_new(ENOMEM, "buffer of %zu bytes", size_bytes);
	while (size_bytes > 0) {
		ssize_t count = read(copy, buffer, size_bytes);

		if (count <= 0)
			return error_new(count < 0 ? errno : EIO, "read a copy of the pipe");
		image_put_bytes(store, kind, 0, buffer, (size_t)count);
		packet_bytes[packets++] = (uint32_t)count;
		size_bytes -= (size_t)count;
	}
	*ret_packets = packets;
	return NULL;
}

static struct error *save_content(const struct open_file *file, int fd, const PipeDataEntry *data, FdTypes type,
                                  struct image_store *store)
{
	FileExtraEntry extra = FILE_EXTRA_ENTRY__INIT;
	auto_fd int copy = -1;

	TRY(copy_pipe(fd, data->bytes, (int)data->size, &copy));
	/* Each packet has a page of its own: pipe(7). */
	auto_free uint32_t *packet_bytes = xalloc((data->size / 4096 + 1) * sizeof(*packet_bytes));
	TRY(put_content(copy, data->bytes, kind_of(type), store, packet_bytes, &extra.n_packet_bytes));
	if (extra.n_packet_bytes < 2 && !has_packet_mode(file))
		return NULL;

	extra.type = type;
	extra.id = data->pipe_id;
	extra.packet_bytes = packet_bytes;
	image_put(store, IMAGE_FILE_EXTRA, 0, &extra.base);
	return NULL;
}

/* A named pipe that has writers only keeps its content for the next reader: fifo(7). There's no way to see that. */
static struct error *check_unread(const struct open_file *file, int fd)
{
	int unread = 0;

	for (size_t i = 0; i < file->all->count; i++)
		if (is_same_pipe(&file->all->list[i], file) &&
		    (file->all->list[i].status_flags & O_ACCMODE) != O_WRONLY)
			return NULL;
	if (ioctl(fd, FIONREAD, &unread) < 0)
		return error_new(errno, "FIONREAD");
	if (unread > 0)
		return error_new(0, "%s: holds %d bytes, and is open for writing only", file->link, unread);
	return NULL;
}

struct error *pipe_data_save(const struct open_file *file, FdTypes type, uint32_t pipe_id, struct image_store *store)
{
	PipeDataEntry data = PIPE_DATA_ENTRY__INIT;
	auto_fd int fd = -1;
	uint32_t unused;
	int unread = 0;

	if ((file->status_flags & O_ACCMODE) == O_WRONLY) {
		/* What nobody can read any more is not missed; only a named pipe can get a new reader. */
		if (type == FD_TYPES__PIPE)
			return NULL;
		TRY(open_file_copy(file, &fd));
		return check_unread(file, fd);
	}
	if (!open_files_first(file->all, FD_TYPES__PIPE, file->stat.st_ino, file->stat.st_dev, &unused))
		return NULL;

	TRY(open_file_copy(file, &fd));
	int capacity_bytes = fcntl(fd, F_GETPIPE_SZ);
	if (capacity_bytes < 0 || ioctl(fd, FIONREAD, &unread) < 0)
		return error_new(errno, "size and content of %s", file->link);

	data.pipe_id = pipe_id;
	data.bytes = (uint32_t)unread;
	data.has_size = true;
	data.size = (uint32_t)capacity_bytes;
	image_put(store, kind_of(type), 0, &data.base);
	return unread > 0 ? save_content(file, fd, &data, type, store) : NULL;
}

/* ---- Restoring ---- */

static void data_free(PipeDataEntry *data)
{
	if (data)
		pipe_data_entry__free_unpacked(data, NULL);
}
DEFINE_OWNED(PipeDataEntry *, data_free)

static uint64_t data_key(const ProtobufCMessage *message)
{
	return ((const PipeDataEntry *)message)->pipe_id;
}

static struct error *write_content(int fd, const uint8_t *bytes, size_t size_bytes)
{
	ssize_t count = write(fd, bytes, size_bytes);

	if (count < 0)
		return error_new(errno, "write %zu bytes into the pipe", size_bytes);
	if ((size_t)count != size_bytes)
		return error_new(ENOSPC, "%zu bytes don't fit into the pipe", size_bytes);
	return NULL;
}

static struct error *write_packets(int fd, const uint8_t *bytes, size_t size_bytes, const FileExtraEntry *extra)
{
	if (fcntl(fd, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return error_new(errno, "F_SETFL(O_DIRECT)");
	for (size_t i = 0; i < extra->n_packet_bytes; i++) {
		uint32_t packet_bytes = extra->packet_bytes[i];

		if (packet_bytes > size_bytes)
			return error_new(EBADMSG, "packet of %u bytes, where there are %zu", packet_bytes, size_bytes);
		TRY(write_content(fd, bytes, packet_bytes));
		bytes += packet_bytes;
		size_bytes -= packet_bytes;
	}
	return size_bytes > 0 ? error_new(EBADMSG, "%zu bytes behind the last packet", size_bytes) : NULL;
}

static struct error *set_capacity(int fd, uint32_t size_bytes)
{
	if (fcntl(fd, F_GETPIPE_SZ) == (int)size_bytes)
		return NULL;
	if (size_bytes > INT32_MAX)
		return error_new(EBADMSG, "pipe of %u bytes", size_bytes);
	if (fcntl(fd, F_SETPIPE_SZ, (int)size_bytes) < 0)
		return error_hint(error_new(errno, "F_SETPIPE_SZ(%u)", size_bytes),
		                  "sysctl fs.pipe-max-size=%u allows it", size_bytes);
	return NULL;
}

struct error *pipe_data_restore(struct restore_files *restore, FdTypes type, uint32_t pipe_id, int fd)
{
	const struct image_store *store = restore_store(restore);
	AUTO(data_free) PipeDataEntry *data = NULL;
	auto_file_extra FileExtraEntry *extra = NULL;
	const uint8_t *bytes;
	size_t size_bytes;
	size_t index = 0;
	bool is_found;

	TRY(restore_find(restore, kind_of(type), data_key, pipe_id, &is_found, &index));
	if (!is_found)
		return NULL;
	TRY(image_get(store, kind_of(type), 0, index, (ProtobufCMessage **)&data));
	TRY(file_extra_find(restore, type, pipe_id, &extra));
	image_get_bytes(store, kind_of(type), 0, index, &bytes, &size_bytes);

	if (data->has_size)
		TRY(set_capacity(fd, data->size));
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return error_new(errno, "F_SETFL(O_NONBLOCK)");
	if (size_bytes == 0)
		return NULL;
	return extra ? write_packets(fd, bytes, size_bytes, extra) : write_content(fd, bytes, size_bytes);
}
