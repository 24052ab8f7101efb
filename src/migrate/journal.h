/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a host remembers of a migration, so that a crash or a cut leaves exactly one copy of the program.
 *
 * A record is a file in the state folder, named after the migration and the side: a block of text with a checksum, and
 * behind it what else is needed to undo or finish the migration later. It is locked (flock(2)) by the process that is at
 * work on it. docs/handoff.md has the states, and what a crash behind each means.
 *
 * The destination becomes "going" only on GO, which is sent behind "committed"; and who asks it removes its record where
 * it isn't, under its lock, so that it can't become so later. Both are durable before anything is done about them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "migrate/route.h"
#include "util/error.h"

enum journal_state {
	JOURNAL_BEGUN,     /* nothing is decided: as if it had not been */
	JOURNAL_COMMITTED, /* source: its copy doesn't go on without the destination's word */
	JOURNAL_GOING,     /* destination: runs, or is about to */
	JOURNAL_RUNS,      /* destination: has been let go */
};
const char *journal_state_name(enum journal_state state);

enum {
	MIGRATION_ID_BYTES = 33,
	JOURNAL_BOOT_ID_BYTES = 40,
	JOURNAL_PROGRAM_BYTES = 20,
	JOURNAL_TEXT_BYTES = 512,
};

struct journal_record {
	char migration[MIGRATION_ID_BYTES]; /* 32 hex digits */
	bool is_source;
	bool is_busy; /* in a list: a process is at work on it */
	enum journal_state state;
	pid_t pid; /* of the program, with the time it began: procfs_start_time(). 0: it isn't known yet */
	uint64_t start_time;
	char boot_id[JOURNAL_BOOT_ID_BYTES]; /* both mean something as long as this is the host's */
	char program[JOURNAL_PROGRAM_BYTES]; /* its name */
	time_t began_s;                      /* the migration, CLOCK_REALTIME */
	size_t processes;                    /* at a destination: of the program, with the first */
	size_t stopped;  /* of those: were stopped, and aren't to run. PIDs at the end of the bytes */
	int exit_status; /* of a source: with which the copy here ends; -1: by SIGKILL */
	/* Of a source, how the destination is reached: struct route. */
	char destination[JOURNAL_TEXT_BYTES], ssh[JOURNAL_TEXT_BYTES], remote_path[JOURNAL_TEXT_BYTES],
		remote_options[JOURNAL_TEXT_BYTES], key[JOURNAL_TEXT_BYTES];
};

/* Puts a route into the record, and names one that is there; it borrows from the record. */
MUST_USE struct error *journal_set_route(struct journal_record *record, const struct route *route);
struct route journal_route(const struct journal_record *record);

/* Names the program as of now: pid must be set. */
MUST_USE struct error *journal_set_program(struct journal_record *record);

/* The very program of the record is there, as far as can be seen. */
bool journal_is_program_there(const struct journal_record *record);

struct journal;

/* 32 random hex digits. */
MUST_USE struct error *journal_new_migration(char ret_migration[MIGRATION_ID_BYTES]);

/* The folder, made if it isn't there; *ret_path is its absolute name, owned by the caller. */
MUST_USE struct error *journal_folder(const char *state_dir, char **ret_path);

/* Makes the file for a record, with room for its block, and locks it. Nothing is in it yet: journal_write(). bytes is
 * what is kept behind the block. */
MUST_USE struct error *journal_create(const char *state_dir, const struct journal_record *record, const void *bytes,
                                      size_t size_bytes, struct journal **ret_journal);

/*
 * Opens one that is there, and waits up to wait_ms for its lock. The error's errno is ENOENT where there is none, EBUSY
 * where somebody is at work on it.
 */
MUST_USE struct error *journal_open(const char *state_dir, const char *migration, bool is_source, unsigned wait_ms,
                                    struct journal **ret_journal, struct journal_record *ret_record);

/* What is kept behind the block. The caller frees. */
MUST_USE struct error *journal_read_bytes(const struct journal *journal, uint8_t **ret_bytes, size_t *ret_size_bytes);

/* More of them, at the end. What is there is read as before only when the record has been written again. */
MUST_USE struct error *journal_add_bytes(struct journal *journal, const void *bytes, size_t size_bytes);

/* Durable when it returns: one write with O_DSYNC into a block that is there. */
MUST_USE struct error *journal_write(struct journal *journal, const struct journal_record *record);

/* Others may work on it now. */
void journal_unlock(struct journal *journal);

/* The migration is over: nobody will ask any more. */
void journal_remove(struct journal *journal);

/* Also unlocks. */
void journal_free(struct journal *journal);
DEFINE_OWNED(struct journal *, journal_free)
#define auto_journal AUTO(journal_free)

/* All records in a state folder; those that say nothing yet have pid 0. The caller frees the array. */
MUST_USE struct error *journal_list(const char *state_dir, struct journal_record **ret_records, size_t *ret_count);
