/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a host remembers of a migration, so that a crash or a cut leaves exactly one copy of the program.
 *
 * A record is a file in the state folder, of one block with a checksum, locked (flock(2)) by the process that is at
 * work on it. The states, and what a crash right behind each means:
 *
 *     source      destination     if either crashes or the link is cut now
 *     -           -               the source's copy runs on; nothing is left over there
 *     -           ready           the same: without GO the destination ends what it has built
 *     committed   ready           the source's copy stands still and asks: "never" (then it runs on), or "going"
 *     committed   going           the source's copy stands still and asks: the destination looks for its task, whose PID
 *                                 and start time the record has. It is there: "going". Or it has died with its
 *                                 maker: "never"
 *     committed   runs            the source's copy stands still and asks: "going"; it is ended
 *     -           runs            the program runs over there
 *
 * The destination becomes "going" only on GO, which is sent behind "committed"; and who asks it writes "never" where
 * it isn't, so that it can't become so later. Both are durable before anything is done about them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

enum journal_state {
	JOURNAL_READY,     /* destination: built, waits for GO */
	JOURNAL_COMMITTED, /* source: its copy doesn't go on without the destination's word */
	JOURNAL_GOING,     /* destination: runs, or is about to */
	JOURNAL_RUNS,      /* destination: has been let go */
	JOURNAL_NEVER,     /* destination: will not run */
};

enum { MIGRATION_ID_BYTES = 33, JOURNAL_DESTINATION_BYTES = 256 };

struct journal_record {
	char migration[MIGRATION_ID_BYTES]; /* 32 hex digits */
	bool is_source;
	enum journal_state state;
	pid_t pid; /* of the program, with the time it began: procfs_start_time() */
	uint64_t start_time;
	char destination[JOURNAL_DESTINATION_BYTES]; /* of a source: as the user named it */
};

struct journal;

/* 32 random hex digits. */
MUST_USE struct error *journal_new_migration(char ret_migration[MIGRATION_ID_BYTES]);

/* Makes the file for a record, with room for its block, and locks it. Nothing is in it yet: journal_write(). */
MUST_USE struct error *journal_create(const char *state_dir, const char *migration, bool is_source,
                                      struct journal **ret_journal);

/*
 * Opens one that is there, and waits up to wait_ms for its lock. The error's errno is ENOENT where there is none, EBUSY
 * where somebody is at work on it.
 */
MUST_USE struct error *journal_open(const char *state_dir, const char *migration, bool is_source, unsigned wait_ms,
                                    struct journal **ret_journal, struct journal_record *ret_record);

/* Durable when it returns: one write with O_DSYNC into a block that is there. */
MUST_USE struct error *journal_write(struct journal *journal, const struct journal_record *record);

/* The migration is over: nobody will ask any more. */
void journal_remove(struct journal *journal);

/* Also unlocks. */
void journal_free(struct journal *journal);
DEFINE_OWNED(struct journal *, journal_free)
#define auto_journal AUTO(journal_free)

/* All records of sources in a state folder, whoever is at work on them. The caller frees the array. */
MUST_USE struct error *journal_list_sources(const char *state_dir, struct journal_record **ret_records,
                                            size_t *ret_count);
