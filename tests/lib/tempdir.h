/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A directory for the files of one test, gone with all that is in it when the test is over. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/own.h"

struct tempdir {
	char path[32];
	int fd;
};

static inline struct tempdir tempdir_new(void)
{
	struct tempdir dir = {.path = "/tmp/godwit-test-XXXXXX", .fd = -1};

	if (mkdtemp(dir.path))
		dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir.fd < 0)
		abort();
	return dir;
}

/* How many files are in it. */
static inline size_t tempdir_count(const struct tempdir *dir)
{
	DIR *files = opendir(dir->path);
	size_t count = 0;

	if (!files)
		abort();
	while (readdir(files)) /* NOLINT(concurrency-mt-unsafe): this stream is ours alone */
		count++;
	closedir(files);
	return count - 2; /* "." and ".." */
}

/* A file with these bytes. */
static inline void tempdir_put(const struct tempdir *dir, const char *name, const void *bytes, size_t size_bytes)
{
	int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, size_bytes) != (ssize_t)size_bytes)
		abort();
	close(fd);
}

static inline void tempdir_free(const struct tempdir *dir)
{
	DIR *files = opendir(dir->path);
	const struct dirent *entry;

	while (files && (entry = readdir(files))) /* NOLINT(concurrency-mt-unsafe): this stream is ours alone */
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dir->fd, entry->d_name, 0);
	if (files)
		closedir(files);
	close(dir->fd);
	rmdir(dir->path);
}
#define auto_tempdir __attribute__((cleanup(tempdir_free)))
