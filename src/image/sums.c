/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "image/input.h"
#include "image/sums.h"
#include "util/alloc.h"

static const char file_name[] = "sums.godwit";

enum { SUMS_BYTES_MAX = 64 << 20, NAME_MAX_BYTES = 64, LINE_MAX_BYTES = 160, PIECE_BYTES = 64 << 10 };

struct sum {
	XXH3_state_t *state; /* owned */
	uint64_t size_bytes;
};

struct sum *sum_new(void)
{
	struct sum *sum = xalloc(sizeof(*sum));

	sum->state = XXH3_createState();
	if (!sum->state)
		abort();
	XXH3_128bits_reset(sum->state);
	return sum;
}

void sum_add(struct sum *sum, const void *bytes, size_t size_bytes)
{
	XXH3_128bits_update(sum->state, bytes, size_bytes);
	sum->size_bytes += size_bytes;
}

void sum_free(struct sum *sum)
{
	if (!sum)
		return;
	XXH3_freeState(sum->state);
	free(sum);
}

/* ---- Writing ---- */

struct error *sums_append(int dir_fd, const char *name, const struct sum *sum)
{
	XXH128_hash_t hash = XXH3_128bits_digest(sum->state);
	auto_free char *line = xformat("%016" PRIx64 "%016" PRIx64 " %" PRIu64 " %s\n", (uint64_t)hash.high64,
	                               (uint64_t)hash.low64, sum->size_bytes, name);
	auto_fd int fd = openat(dir_fd, file_name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_new(errno, "make %s", file_name);
	ssize_t n = write(fd, line, strlen(line));
	if (n != (ssize_t)strlen(line))
		return error_new(n < 0 ? errno : ENOSPC, "write %s", file_name);
	return NULL;
}

struct error *sums_sync(int dir_fd)
{
	auto_fd int fd = openat(dir_fd, file_name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return NULL;
	if (fd < 0 || fsync(fd) < 0)
		return error_new(errno, "fsync %s", file_name);
	return NULL;
}

void sums_forget(int dir_fd)
{
	if (faccessat(dir_fd, "inventory.img", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		unlinkat(dir_fd, file_name, 0);
}

/* ---- Reading ---- */

struct line {
	uint64_t high, low, size_bytes;
	char name[NAME_MAX_BYTES];
};

struct sums {
	struct line *lines; /* owned; by name, later ones of a name behind earlier ones */
	size_t count;
};

void sums_free(struct sums *sums)
{
	if (!sums)
		return;
	free(sums->lines);
	free(sums);
}

static struct error *read_text(int dir_fd, char **ret_text)
{
	size_t size_bytes;
	int opened;

	TRY(input_open(dir_fd, file_name, &opened, &size_bytes));
	auto_fd int fd = opened;
	if (size_bytes > SUMS_BYTES_MAX)
		return error_new(E2BIG, "%s: has %zu bytes", file_name, size_bytes);
	auto_free char *text = calloc(1, size_bytes + 1);
	if (!text)
		return error_new(ENOMEM, "%s: %zu bytes", file_name, size_bytes);
	ssize_t n = read(fd, text, size_bytes);
	if (n != (ssize_t)size_bytes || strlen(text) != size_bytes)
		return error_new(n < 0 ? errno : EBADMSG, "%s can't be read", file_name);
	*ret_text = take(text);
	return NULL;
}

static struct error *parse(char *text, struct sums *sums)
{
	static const char digits[] = "0123456789abcdef"; /* one way to write a number */
	size_t room = 0;

	for (const char *at = text; *at; at++)
		room += *at == '\n';
	sums->lines = xalloc((room + 1) * sizeof(*sums->lines));
	for (char *next = text, *end; *next; next = end + 1) {
		struct line *line = &sums->lines[sums->count];

		end = strchr(next, '\n');
		if (!end || end - next > LINE_MAX_BYTES || strspn(next, digits) != 2 * sizeof(XXH128_hash_t) ||
		    sscanf(next, "%16" SCNx64 "%16" SCNx64 " %20" SCNu64 " %63[^\n]", &line->high, &line->low,
		           &line->size_bytes, line->name) != 4 ||
		    strchr(line->name, '/'))
			return error_new(EBADMSG, "%s: line %zu makes no sense", file_name, sums->count + 1);
		sums->count++;
	}
	return NULL;
}

struct error *sums_read(int dir_fd, struct sums **ret_sums)
{
	auto_sums struct sums *sums = xalloc(sizeof(*sums));
	auto_free char *text = NULL;

	auto_error struct error *error = read_text(dir_fd, &text);
	if (error && error_errnum(error) != ENOENT)
		return take(error);
	if (!error)
		TRY(parse(text, sums));
	*ret_sums = take(sums);
	return NULL;
}

/* The last line of that name: an earlier one is of a dump that failed. */
static const struct line *find(const struct sums *sums, const char *name)
{
	for (size_t i = sums->count; i > 0; i--)
		if (strcmp(sums->lines[i - 1].name, name) == 0)
			return &sums->lines[i - 1];
	return NULL;
}

bool sums_has(const struct sums *sums, const char *name)
{
	return find(sums, name) != NULL;
}

static struct error *differs(const char *name, const char *how)
{
	return error_hint(error_new(EBADMSG, "%s: is damaged: %s", name, how),
	                  "copy the images again; if it was changed on purpose, delete %s", file_name);
}

struct error *sums_check(const struct sums *sums, const char *name, const struct sum *sum)
{
	const struct line *line = find(sums, name);

	if (!line)
		return NULL;
	if (line->size_bytes != sum->size_bytes) {
		auto_free char *how = xformat("it has %" PRIu64 " bytes, %" PRIu64 " were written", sum->size_bytes,
		                              line->size_bytes);

		return differs(name, how);
	}
	XXH128_hash_t hash = XXH3_128bits_digest(sum->state);
	return hash.high64 == line->high && hash.low64 == line->low ? NULL : differs(name, "its checksum isn't right");
}

struct error *sums_check_file(const struct sums *sums, int dir_fd, const char *name)
{
	auto_sum struct sum *sum = sum_new();
	auto_free char *buffer = xalloc(PIECE_BYTES);
	size_t size_bytes;
	int opened;

	if (!sums_has(sums, name))
		return NULL;
	TRY(input_open(dir_fd, name, &opened, &size_bytes));
	auto_fd int fd = opened;
	for (ssize_t n; (n = read(fd, buffer, PIECE_BYTES)) != 0;) {
		if (n < 0)
			return error_new(errno, "read %s", name);
		sum_add(sum, buffer, (size_t)n);
	}
	return sums_check(sums, name, sum);
}

struct error *sums_check_all_there(const struct sums *sums, int dir_fd)
{
	for (size_t i = 0; i < sums->count; i++)
		if (faccessat(dir_fd, sums->lines[i].name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			return error_hint(error_new(errno, "%s is missing", sums->lines[i].name),
			                  "copy the images again");
	return NULL;
}
