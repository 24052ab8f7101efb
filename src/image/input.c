/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image/input.h"

struct error *input_open(int dir_fd, const char *name, int *ret_fd, size_t *ret_size_bytes)
{
	struct stat stat;
	/* O_NONBLOCK: opening a FIFO of that name must not wait for a writer. */
	auto_fd int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "open %s", name);
	if (fstat(fd, &stat) < 0)
		return error_new(errno, "fstat %s", name);
	if (!S_ISREG(stat.st_mode))
		return error_new(EBADMSG, "%s: not a regular file", name);
	*ret_fd = take(fd);
	*ret_size_bytes = (size_t)stat.st_size;
	return NULL;
}
