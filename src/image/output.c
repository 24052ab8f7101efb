/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "image/output.h"
#include "image/sums.h"
#include "util/alloc.h"

enum { BUFFER_BYTES = 4096 };

struct output {
	int dir_fd; /* borrowed */
	char *name;
	int fd;
	bool is_kept;
	char *buffer;
	size_t room_bytes, used_bytes; /* of buffer */
	struct sum *sum;               /* owned; NULL: it gets none */
};

struct error *output_open(int dir_fd, const char *name, bool has_sum, struct output **ret_output)
{
	auto_fd int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_new(errno, "make %s", name);
	struct output *output = xalloc(sizeof(*output));
	output->dir_fd = dir_fd;
	output->name = xformat("%s", name);
	output->fd = take(fd);
	output->buffer = xalloc(BUFFER_BYTES);
	output->room_bytes = BUFFER_BYTES;
	output->sum = has_sum ? sum_new() : NULL;
	*ret_output = output;
	return NULL;
}

void output_gather(struct output *output, size_t size_bytes)
{
	assert(output->used_bytes == 0);
	if (size_bytes <= output->room_bytes)
		return;
	free(output->buffer);
	output->buffer = xalloc_touched(size_bytes);
	output->room_bytes = size_bytes;
}

/* Writes two pieces, whatever the number of calls that takes. */
static struct error *write_both(const struct output *output, struct iovec pieces[2])
{
	for (int i = 0; output->sum && i < 2; i++)
		if (pieces[i].iov_len)
			sum_add(output->sum, pieces[i].iov_base, pieces[i].iov_len);
	while (pieces[0].iov_len + pieces[1].iov_len > 0) {
		ssize_t written = writev(output->fd, pieces, 2);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return error_new(errno, "write %s", output->name);
		for (int i = 0; i < 2; i++) {
			size_t done = (size_t)written < pieces[i].iov_len ? (size_t)written : pieces[i].iov_len;

			if (done) /* one of them may be nothing at all */
				pieces[i].iov_base = (char *)pieces[i].iov_base + done;
			pieces[i].iov_len -= done;
			written -= (ssize_t)done;
		}
	}
	return NULL;
}

struct error *output_put(struct output *output, const void *bytes, size_t size_bytes)
{
	if (size_bytes == 0)
		return NULL;
	if (size_bytes <= output->room_bytes - output->used_bytes) {
		memcpy(&output->buffer[output->used_bytes], bytes, size_bytes);
		output->used_bytes += size_bytes;
		return NULL;
	}
	struct iovec pieces[2] = {
		{.iov_base = output->buffer, .iov_len = output->used_bytes},
		{.iov_len = size_bytes},
	};
	memcpy(&pieces[1].iov_base, &bytes, sizeof(bytes)); /* writev(2) doesn't change them */
	output->used_bytes = 0;
	return write_both(output, pieces);
}

struct error *output_finish(struct output *output)
{
	struct iovec pieces[2] = {{.iov_base = output->buffer, .iov_len = output->used_bytes}, {0}};

	output->used_bytes = 0;
	TRY(write_both(output, pieces));
	if (fsync(output->fd) < 0)
		return error_new(errno, "fsync %s", output->name);
	close(take(output->fd));
	free(take(output->buffer));
	return output->sum ? sums_append(output->dir_fd, output->name, output->sum) : NULL;
}

void output_keep(struct output *output)
{
	output->is_kept = true;
}

void output_free(struct output *output)
{
	if (!output)
		return;
	if (output->fd >= 0)
		close(output->fd);
	if (!output->is_kept)
		unlinkat(output->dir_fd, output->name, 0);
	if (!output->is_kept && output->sum)
		sums_forget(output->dir_fd);
	sum_free(output->sum);
	free(output->name);
	free(output->buffer);
	free(output);
}
