/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A store as a directory: one file for each image. */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>

#include "image/input.h"
#include "image/kinds.h"
#include "image/output.h"
#include "image/store.h"
#include "image/sums.h"
#include "util/alloc.h"

/* As in store.c: larger ones would be refused there, but have been read by then. */
static const size_t file_bytes_max = ((size_t)2 << 30) + sizeof(uint32_t) * IMAGE_MAGICS_MAX;

/* ---- Writing ---- */

static struct error *write_image(int dir_fd, const char *name, const struct image_file *file)
{
	auto_output struct output *output = NULL;
	uint32_t magics[IMAGE_MAGICS_MAX];
	size_t count = image_magics(file->kind, magics);

	if (image_is_service(file->kind) && unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return error_new(errno, "unlink the old %s", name);
	TRY(output_open(dir_fd, name, !image_is_service(file->kind), &output));
	for (size_t i = 0; i < count; i++) {
		uint32_t word = htole32(magics[i]);

		TRY(output_put(output, &word, sizeof(word)));
	}
	TRY(output_put(output, file->bytes, file->size_bytes));
	TRY(output_finish(output));
	output_keep(output);
	return NULL;
}

static struct error *sync_directory(int dir_fd)
{
	if (fsync(dir_fd) < 0)
		return error_new(errno, "fsync(directory of images)");
	return NULL;
}

/* Writes the inventory or all but it, and notes which are made. */
static struct error *write_images(const struct image_store *store, int dir_fd, bool is_inventory, bool *is_made)
{
	char name[IMAGE_NAME_MAX];
	struct image_file file;

	for (size_t n = 0; image_store_file(store, n, &file); n++) {
		if ((file.kind == IMAGE_INVENTORY) != is_inventory)
			continue;
		image_file_name(file.kind, file.id, name);
		TRY(write_image(dir_fd, name, &file));
		is_made[n] = true;
	}
	return sync_directory(dir_fd);
}

static void unlink_images(const struct image_store *store, int dir_fd, const bool *is_made)
{
	char name[IMAGE_NAME_MAX];
	struct image_file file;

	for (size_t n = 0; image_store_file(store, n, &file); n++) {
		image_file_name(file.kind, file.id, name);
		if (is_made[n])
			unlinkat(dir_fd, name, 0);
	}
}

struct error *image_store_write(const struct image_store *store, int dir_fd)
{
	struct image_file file;
	size_t count = 0;

	while (image_store_file(store, count, &file))
		count++;
	auto_free bool *is_made = xalloc(count + 1);
	struct error *error = write_images(store, dir_fd, false, is_made);
	if (!error)
		error = sums_sync(dir_fd);
	if (!error)
		error = write_images(store, dir_fd, true, is_made);
	if (error) {
		unlink_images(store, dir_fd, is_made);
		sums_forget(dir_fd);
	}
	return error;
}

/* ---- Reading ---- */

static void own_close_directory(DIR *directory)
{
	if (directory)
		closedir(directory);
}
DEFINE_OWNED(DIR *, own_close_directory)

static struct error *read_file(int fd, const char *name, uint8_t *bytes, size_t size_bytes)
{
	size_t done = 0;

	while (done < size_bytes) {
		ssize_t got = read(fd, bytes + done, size_bytes - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_new(errno, "read %s", name);
		if (got == 0)
			return error_new(EBADMSG, "%s: became shorter while it was read", name);
		done += (size_t)got;
	}
	return NULL;
}

static struct error *check_magics(enum image_kind kind, const char *name, const uint8_t *bytes, size_t size_bytes)
{
	uint32_t magics[IMAGE_MAGICS_MAX];
	size_t count = image_magics(kind, magics);

	if (size_bytes < count * sizeof(uint32_t))
		return error_new(EBADMSG, "%s: cut off in its magic", name);
	for (size_t i = 0; i < count; i++) {
		uint32_t word;

		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		if (le32toh(word) != magics[i])
			return error_new(EBADMSG, "%s: begins with %#x where %#x is expected", name, le32toh(word),
			                 magics[i]);
	}
	return NULL;
}

static struct error *check_sum(const struct sums *sums, const char *name, const uint8_t *bytes, size_t size_bytes)
{
	auto_sum struct sum *sum = sum_new();

	sum_add(sum, bytes, size_bytes);
	return sums_check(sums, name, sum);
}

/* NOLINTBEGIN(clang-analyzer-unix.Malloc): it doesn't see that auto_free frees bytes */
static struct error *read_image(struct image_store *store, int dir_fd, const char *name, const struct sums *sums)
{
	uint32_t magics[IMAGE_MAGICS_MAX];
	struct image_file file;
	auto_fd int fd = -1;
	size_t size_bytes = 0;

	if (!image_of_file_name(name, &file.kind, &file.id) || image_is_service(file.kind))
		return NULL;
	TRY(input_open(dir_fd, name, &fd, &size_bytes));
	if (size_bytes > file_bytes_max)
		return error_new(E2BIG, "%s: has %zu bytes; no more than %zu are read", name, size_bytes,
		                 file_bytes_max);
	auto_free uint8_t *bytes = malloc(size_bytes + 1);
	if (!bytes)
		return error_new(ENOMEM, "%s: %zu bytes", name, size_bytes);
	TRY(read_file(fd, name, bytes, size_bytes));
	TRY(check_sum(sums, name, bytes, size_bytes));
	TRY(check_magics(file.kind, name, bytes, size_bytes));

	size_t magic_bytes = image_magics(file.kind, magics) * sizeof(uint32_t);
	file.bytes = bytes + magic_bytes;
	file.size_bytes = size_bytes - magic_bytes;
	return image_store_add(store, &file);
}
/* NOLINTEND(clang-analyzer-unix.Malloc) */

struct error *image_store_read(int dir_fd, struct image_store **ret_store)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_sums struct sums *sums = NULL;
	auto_fd int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "open directory of images");
	AUTO(own_close_directory) DIR *directory = fdopendir(fd);
	if (!directory)
		return error_new(errno, "fdopendir(directory of images)");
	take(fd); /* directory has it now */

	TRY(sums_read(dir_fd, &sums));
	TRY(sums_check_all_there(sums, dir_fd));
	const struct dirent *entry;
	for (errno = 0; (entry = readdir(directory)); errno = 0) /* NOLINT(concurrency-mt-unsafe): our own stream */
		TRY(read_image(store, dir_fd, entry->d_name, sums));
	if (errno)
		return error_new(errno, "readdir(directory of images)");
	*ret_store = take(store);
	return NULL;
}
