/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "migrate/journal.h"
#include "util/alloc.h"

/* Text for people, filled up with spaces, the checksum of what is before it in the last line. */
enum {
	BLOCK_BYTES = 1024,
	SUM_BYTES = 21 /* "sum " and 16 digits and a newline */,
	TEXT_BYTES = BLOCK_BYTES - SUM_BYTES
};

struct journal {
	int dir_fd, fd; /* owned */
	char *name;     /* owned */
};

static const char *const state_names[] = {
	[JOURNAL_READY] = "ready", [JOURNAL_COMMITTED] = "committed", [JOURNAL_GOING] = "going",
	[JOURNAL_RUNS] = "runs",   [JOURNAL_NEVER] = "never",
};

struct error *journal_new_migration(char ret_migration[MIGRATION_ID_BYTES])
{
	uint8_t bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return error_new(errno, "getrandom");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret_migration + 2 * i, 3, "%02x", bytes[i]);
	return NULL;
}

/* It becomes a file name. */
static bool is_migration(const char *text)
{
	return strlen(text) == MIGRATION_ID_BYTES - 1 && text[strspn(text, "0123456789abcdef")] == '\0';
}

/* ---- Files ---- */

static struct error *open_state_dir(const char *path, int *ret_fd)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_hint(error_new(errno, "state folder: mkdir(%s)", path), "--state-dir names another one");
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "state folder: open(%s)", path);
	*ret_fd = fd;
	return NULL;
}

static struct error *journal_at(const char *state_dir, const char *migration, bool is_source,
                                struct journal **ret_journal)
{
	auto_journal struct journal *journal = xalloc(sizeof(*journal));

	journal->fd = -1;
	journal->dir_fd = -1;
	if (!is_migration(migration))
		return error_new(EBADMSG, "migration \"%.40s\"", migration);
	journal->name = xformat("%s.%s", migration, is_source ? "source" : "destination");
	TRY(open_state_dir(state_dir, &journal->dir_fd));
	*ret_journal = take(journal);
	return NULL;
}

void journal_free(struct journal *journal)
{
	if (!journal)
		return;
	if (journal->fd >= 0)
		close(journal->fd);
	if (journal->dir_fd >= 0)
		close(journal->dir_fd);
	free(journal->name);
	free(journal);
}

void journal_remove(struct journal *journal)
{
	unlinkat(journal->dir_fd, journal->name, 0);
}

static struct error *reserve(struct journal *journal)
{
	char spaces[BLOCK_BYTES];

	memset(spaces, ' ', sizeof(spaces));
	if (pwrite(journal->fd, spaces, sizeof(spaces), 0) != sizeof(spaces) || fsync(journal->fd) < 0 ||
	    fsync(journal->dir_fd) < 0)
		return error_new(errno ? errno : ENOSPC, "journal %s", journal->name);
	return NULL;
}

struct error *journal_create(const char *state_dir, const char *migration, bool is_source, struct journal **ret_journal)
{
	auto_journal struct journal *journal = NULL;

	TRY(journal_at(state_dir, migration, is_source, &journal));
	journal->fd = openat(journal->dir_fd, journal->name, O_RDWR | O_CREAT | O_EXCL | O_DSYNC | O_CLOEXEC, 0600);
	if (journal->fd < 0 || flock(journal->fd, LOCK_EX | LOCK_NB) < 0)
		return error_new(errno, "journal %s/%s", state_dir, journal->name);
	struct error *error = reserve(journal);
	if (error) {
		journal_remove(journal);
		return error;
	}
	*ret_journal = take(journal);
	return NULL;
}

/* ---- Records ---- */

static uint64_t sum_of(const char *block)
{
	return XXH3_64bits(block, TEXT_BYTES);
}

struct error *journal_write(struct journal *journal, const struct journal_record *record)
{
	char block[BLOCK_BYTES + 1];

	memset(block, ' ', sizeof(block));
	int n = snprintf(block, TEXT_BYTES, "godwit-journal 1\nstate %s\npid %d\nstart %" PRIu64 "\ndestination %s\n",
	                 state_names[record->state], record->pid, record->start_time, record->destination);
	if (n < 0 || n >= TEXT_BYTES)
		return error_new(EFBIG, "journal %s", journal->name);
	block[n] = ' ';
	snprintf(block + TEXT_BYTES, SUM_BYTES + 1, "sum %016" PRIx64 "\n", sum_of(block));
	if (pwrite(journal->fd, block, BLOCK_BYTES, 0) != BLOCK_BYTES)
		return error_new(errno, "journal %s", journal->name);
	return NULL;
}

static bool find_state(const char *name, enum journal_state *ret_state)
{
	for (size_t i = 0; i < sizeof(state_names) / sizeof(state_names[0]); i++)
		if (strcmp(name, state_names[i]) == 0) {
			*ret_state = (enum journal_state)i;
			return true;
		}
	return false;
}

/* A block that was never written, or only in part, is none: what it was to say has not happened. */
static bool parse(const char *block, struct journal_record *record)
{
	char state[16];
	int pid;
	uint64_t sum;

	if (sscanf(block + TEXT_BYTES, "sum %" SCNx64, &sum) != 1 || sum != sum_of(block))
		return false;
	record->destination[0] = '\0';
	if (sscanf(block, "godwit-journal 1\nstate %15s\npid %d\nstart %" SCNu64 "\ndestination %255[^\n]", state, &pid,
	           &record->start_time, record->destination) < 3)
		return false;
	record->pid = pid;
	return find_state(state, &record->state);
}

static bool read_record(int fd, const char *name, struct journal_record *ret_record)
{
	char block[BLOCK_BYTES + 1] = "";

	snprintf(ret_record->migration, sizeof(ret_record->migration), "%.32s", name);
	ret_record->is_source = strstr(name, ".source") != NULL;
	return pread(fd, block, BLOCK_BYTES, 0) == BLOCK_BYTES && parse(block, ret_record);
}

static bool lock_within(int fd, unsigned wait_ms)
{
	for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms++) {
		if (waited_ms >= wait_ms)
			return false;
		usleep(1000);
	}
	return true;
}

struct error *journal_open(const char *state_dir, const char *migration, bool is_source, unsigned wait_ms,
                           struct journal **ret_journal, struct journal_record *ret_record)
{
	auto_journal struct journal *journal = NULL;

	TRY(journal_at(state_dir, migration, is_source, &journal));
	journal->fd = openat(journal->dir_fd, journal->name, O_RDWR | O_DSYNC | O_CLOEXEC);
	if (journal->fd < 0)
		return error_new(errno, "journal %s/%s", state_dir, journal->name);
	if (!lock_within(journal->fd, wait_ms))
		return error_new(EBUSY, "migration %s is under way", migration);
	if (!read_record(journal->fd, journal->name, ret_record))
		ret_record->state = JOURNAL_READY;
	*ret_journal = take(journal);
	return NULL;
}

struct error *journal_list_sources(const char *state_dir, struct journal_record **ret_records, size_t *ret_count)
{
	auto_free struct journal_record *records = NULL;
	size_t count = 0;
	DIR *dir = opendir(state_dir);

	*ret_records = NULL;
	*ret_count = 0;
	if (!dir)
		return errno == ENOENT ? NULL : error_new(errno, "state folder: open(%s)", state_dir);
	for (const struct dirent *entry; (entry = readdir(dir));) {
		struct journal_record record = {0};
		auto_fd int fd =
			strstr(entry->d_name, ".source") ? openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC) : -1;

		if (fd < 0 || !read_record(fd, entry->d_name, &record))
			continue;
		records = reallocarray(records, count + 1, sizeof(*records));
		if (!records)
			abort();
		records[count++] = record;
	}
	closedir(dir);
	*ret_records = take(records);
	*ret_count = count;
	return NULL;
}
