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

#include "migrate/identity.h"
#include "migrate/journal.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/test_stop.h"

/* Text for people, filled up with spaces, the checksum of what is before it in the last line. */
enum {
	BLOCK_BYTES = 4096,
	SUM_BYTES = 21 /* "sum " and 16 digits and a newline */,
	TEXT_BYTES = BLOCK_BYTES - SUM_BYTES,
	MORE_BYTES_MAX = 16 << 20, /* behind the block */
};

struct journal {
	int dir_fd, fd;    /* owned */
	char *name;        /* owned */
	size_t more_bytes; /* behind the block, and their checksum */
	uint64_t more_sum;
};

static const char *const state_names[] = {
	[JOURNAL_BEGUN] = "begun",
	[JOURNAL_COMMITTED] = "committed",
	[JOURNAL_GOING] = "going",
	[JOURNAL_RUNS] = "runs",
};

const char *journal_state_name(enum journal_state state)
{
	return state_names[state];
}

struct error *journal_new_migration(char ret_migration[MIGRATION_ID_BYTES])
{
	uint8_t bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return error_new(errno, "getrandom");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret_migration + 2 * i, 3, "%02x", bytes[i]);
	return NULL;
}

/* ---- What a record says ---- */

static struct error *set_text(char into[JOURNAL_TEXT_BYTES], const char *text, const char *what)
{
	if (!text)
		text = "";
	if (strlen(text) >= JOURNAL_TEXT_BYTES || strchr(text, '\n'))
		return error_new(EINVAL, "%s has more than %d bytes, or several lines", what, JOURNAL_TEXT_BYTES - 1);
	snprintf(into, JOURNAL_TEXT_BYTES, "%s", text);
	return NULL;
}

struct error *journal_set_route(struct journal_record *record, const struct route *route)
{
	/* Whoever settles it may be in another folder. */
	auto_free char *key = route->key ? realpath(route->key, NULL) : NULL;

	TRY(set_text(record->destination, route->destination, "the destination"));
	TRY(set_text(record->ssh, route->ssh, "the ssh command"));
	TRY(set_text(record->remote_path, route->remote_path, "the remote path"));
	TRY(set_text(record->remote_options, route->remote_options, "the options of the other side"));
	return set_text(record->key, key ? key : route->key, "the name of the key file");
}

struct route journal_route(const struct journal_record *record)
{
	return (struct route){
		.destination = record->destination,
		.ssh = record->ssh,
		.remote_path = record->remote_path,
		.remote_options = record->remote_options,
		.key = *record->key ? record->key : NULL,
	};
}

struct error *journal_set_program(struct journal_record *record)
{
	auto_free char *boot_id = identity_boot_id();
	auto_free char *comm = NULL;

	int r = procfs_start_time(record->pid, &record->start_time);
	if (r >= 0)
		r = procfs_read(record->pid, "comm", &comm, NULL);
	if (r < 0)
		return error_new(-r, "process %d", record->pid);
	comm[strcspn(comm, "\n")] = '\0';
	snprintf(record->program, sizeof(record->program), "%s", comm);
	snprintf(record->boot_id, sizeof(record->boot_id), "%s", boot_id);
	return NULL;
}

bool journal_is_program_there(const struct journal_record *record)
{
	auto_free char *boot_id = identity_boot_id();
	uint64_t start_time;

	return record->pid > 0 && strcmp(boot_id, record->boot_id) == 0 &&
	       procfs_start_time(record->pid, &start_time) == 0 && start_time == record->start_time &&
	       !procfs_is_dead(record->pid);
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

struct error *journal_folder(const char *state_dir, char **ret_path)
{
	auto_fd int fd = -1;

	TRY(open_state_dir(state_dir, &fd));
	*ret_path = realpath(state_dir, NULL);
	return *ret_path ? NULL : error_new(errno, "state folder %s", state_dir);
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

static struct error *write_all(const struct journal *journal, const void *bytes, size_t size_bytes, off_t offset)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = pwrite(journal->fd, (const char *)bytes + done, size_bytes - done, offset + (off_t)done);

		if (n < 0 && errno != EINTR)
			return error_new(errno, "journal %s", journal->name);
		done += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

static struct error *reserve(struct journal *journal, const void *bytes, size_t size_bytes)
{
	char spaces[BLOCK_BYTES];

	if (size_bytes > MORE_BYTES_MAX)
		return error_new(EFBIG, "journal %s", journal->name);
	memset(spaces, ' ', sizeof(spaces));
	journal->more_bytes = size_bytes;
	journal->more_sum = XXH3_64bits(bytes, size_bytes);
	TRY(write_all(journal, spaces, sizeof(spaces), 0));
	TRY(write_all(journal, bytes, size_bytes, BLOCK_BYTES));
	if (fsync(journal->fd) < 0 || fsync(journal->dir_fd) < 0)
		return error_new(errno, "journal %s", journal->name);
	return NULL;
}

struct error *journal_create(const char *state_dir, const struct journal_record *record, const void *bytes,
                             size_t size_bytes, struct journal **ret_journal)
{
	auto_journal struct journal *journal = NULL;

	TRY(journal_at(state_dir, record->migration, record->is_source, &journal));
	journal->fd = openat(journal->dir_fd, journal->name, O_RDWR | O_CREAT | O_EXCL | O_DSYNC | O_CLOEXEC, 0600);
	if (journal->fd < 0 || flock(journal->fd, LOCK_EX | LOCK_NB) < 0)
		return error_hint(error_new(errno, "journal %s/%s", state_dir, journal->name),
		                  "--state-dir names another folder");
	test_stop(record->is_source ? "recording" : "destination-recording");
	struct error *error = reserve(journal, bytes, size_bytes);
	if (!error)
		error = journal_write(journal, record);
	if (error) {
		journal_remove(journal);
		return error_hint(error, "--state-dir names another folder");
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
	int n = snprintf(block, TEXT_BYTES,
	                 "godwit-journal 4\nstate %s\npid %d\nstart %" PRIu64 "\nboot %s\nprogram %s\n"
	                 "began %lld\nexit %d\nprocesses %zu %zu\nmore %zu %016" PRIx64
	                 "\ndestination %s\nssh %s\nremote-path %s\nremote-options %s\nkey %s\n",
	                 state_names[record->state], record->pid, record->start_time,
	                 *record->boot_id ? record->boot_id : "-", *record->program ? record->program : "-",
	                 (long long)record->began_s, record->exit_status, record->processes, record->stopped,
	                 journal->more_bytes, journal->more_sum, record->destination, record->ssh, record->remote_path,
	                 record->remote_options, record->key);
	if (n < 0 || n >= TEXT_BYTES)
		return error_new(EFBIG, "journal %s", journal->name);
	block[n] = ' ';
	snprintf(block + TEXT_BYTES, SUM_BYTES + 1, "sum %016" PRIx64 "\n", sum_of(block));
	return write_all(journal, block, BLOCK_BYTES, 0);
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

/* The rest of the line that begins with name and a space, "" where there is none. */
static void line_of(const char *block, const char *name, char *ret_text, size_t room)
{
	auto_free char *start = xformat("\n%s ", name);
	const char *at = strstr(block, start);

	ret_text[0] = '\0';
	if (!at)
		return;
	at += strlen(start);
	snprintf(ret_text, room, "%.*s", (int)strcspn(at, "\n"), at);
}

/* A block that was never written, or only in part, is none: what it was to say has not happened. */
static bool parse(const char *block, struct journal *journal, struct journal_record *record)
{
	char state[16];
	long long began_s;
	uint64_t sum;

	if (sscanf(block + TEXT_BYTES, "sum %" SCNx64, &sum) != 1 || sum != sum_of(block))
		return false;
	if (sscanf(block,
	           "godwit-journal 4\nstate %15s\npid %d\nstart %" SCNu64 "\nboot %39s\nprogram %*[^\n]\n"
	           "began %lld\nexit %d\nprocesses %zu %zu\nmore %zu %" SCNx64,
	           state, &record->pid, &record->start_time, record->boot_id, &began_s, &record->exit_status,
	           &record->processes, &record->stopped, &journal->more_bytes, &journal->more_sum) != 10)
		return false;
	record->began_s = (time_t)began_s;
	line_of(block, "program", record->program, sizeof(record->program));
	line_of(block, "destination", record->destination, sizeof(record->destination));
	line_of(block, "ssh", record->ssh, sizeof(record->ssh));
	line_of(block, "remote-path", record->remote_path, sizeof(record->remote_path));
	line_of(block, "remote-options", record->remote_options, sizeof(record->remote_options));
	line_of(block, "key", record->key, sizeof(record->key));
	return find_state(state, &record->state);
}

/* One that says nothing: nothing has been done yet. */
static void read_record(struct journal *journal, struct journal_record *ret_record)
{
	char block[BLOCK_BYTES + 1] = "";
	struct journal_record none = {.is_source = strstr(journal->name, ".source") != NULL};

	snprintf(none.migration, sizeof(none.migration), "%.32s", journal->name);
	*ret_record = none;
	if (pread(journal->fd, block, BLOCK_BYTES, 0) != BLOCK_BYTES || !parse(block, journal, ret_record)) {
		*ret_record = none;
		journal->more_bytes = 0;
	}
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
	struct stat stat;

	TRY(journal_at(state_dir, migration, is_source, &journal));
	journal->fd = openat(journal->dir_fd, journal->name, O_RDWR | O_DSYNC | O_CLOEXEC);
	if (journal->fd < 0)
		return error_new(errno, "journal %s/%s", state_dir, journal->name);
	if (!lock_within(journal->fd, wait_ms))
		return error_new(EBUSY, "migration %s is under way", migration);
	/* Removed by the one who had the lock. */
	if (fstat(journal->fd, &stat) == 0 && stat.st_nlink == 0)
		return error_new(ENOENT, "journal %s/%s", state_dir, journal->name);
	read_record(journal, ret_record);
	*ret_journal = take(journal);
	return NULL;
}

struct error *journal_read_bytes(const struct journal *journal, uint8_t **ret_bytes, size_t *ret_size_bytes)
{
	size_t size_bytes = journal->more_bytes;

	*ret_bytes = NULL;
	*ret_size_bytes = 0;
	if (size_bytes > MORE_BYTES_MAX)
		return error_new(EBADMSG, "journal %s", journal->name);
	auto_free uint8_t *bytes = xalloc(size_bytes + 1);
	if (pread(journal->fd, bytes, size_bytes, BLOCK_BYTES) != (ssize_t)size_bytes ||
	    XXH3_64bits(bytes, size_bytes) != journal->more_sum)
		return error_new(EBADMSG, "journal %s", journal->name);
	*ret_bytes = take(bytes);
	*ret_size_bytes = size_bytes;
	return NULL;
}

struct error *journal_add_bytes(struct journal *journal, const void *bytes, size_t size_bytes)
{
	auto_free uint8_t *former = NULL;
	size_t former_bytes;

	TRY(journal_read_bytes(journal, &former, &former_bytes));
	auto_free uint8_t *all = xalloc(former_bytes + size_bytes + 1);
	memcpy(all, former, former_bytes);
	memcpy(all + former_bytes, bytes, size_bytes);
	TRY(write_all(journal, bytes, size_bytes, (off_t)(BLOCK_BYTES + former_bytes)));
	journal->more_bytes = former_bytes + size_bytes;
	journal->more_sum = XXH3_64bits(all, journal->more_bytes);
	return NULL;
}

void journal_unlock(struct journal *journal)
{
	flock(journal->fd, LOCK_UN);
}

/* ---- All of them ---- */

static bool is_record_name(const char *name)
{
	auto_free char *migration = xformat("%.32s", name);

	return is_migration(migration) && (strcmp(name + MIGRATION_ID_BYTES - 1, ".source") == 0 ||
	                                   strcmp(name + MIGRATION_ID_BYTES - 1, ".destination") == 0);
}

/* False: it has just been removed. */
static bool read_listed(int dir_fd, const char *name, struct journal_record *ret_record)
{
	auto_fd int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	auto_free char *own_name = xformat("%s", name);
	struct journal journal = {.dir_fd = dir_fd, .fd = fd, .name = own_name};

	if (fd < 0)
		return false;
	read_record(&journal, ret_record);
	ret_record->is_busy = flock(fd, LOCK_SH | LOCK_NB) < 0;
	return true;
}

struct error *journal_list(const char *state_dir, struct journal_record **ret_records, size_t *ret_count)
{
	struct journal_record *records = NULL;
	size_t count = 0;
	DIR *dir = opendir(state_dir);

	*ret_records = NULL;
	*ret_count = 0;
	if (!dir)
		return errno == ENOENT ? NULL : error_new(errno, "state folder: open(%s)", state_dir);
	for (const struct dirent *entry; (entry = readdir(dir));) { /* NOLINT(concurrency-mt-unsafe): our own stream */
		struct journal_record record;

		if (!is_record_name(entry->d_name) || !read_listed(dirfd(dir), entry->d_name, &record))
			continue;
		records = xrealloc(records, (count + 1) * sizeof(*records));
		records[count++] = record;
	}
	closedir(dir);
	*ret_records = records;
	*ret_count = count;
	return NULL;
}
