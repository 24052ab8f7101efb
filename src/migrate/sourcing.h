/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What the parts of the source's side of a migration share. For source*.c only: source.c has the phases, source_rounds.c all
 * that comes before the last freeze.
 */
#pragma once

#include "checkpoint/connections.h"
#include "checkpoint/save/children.h"
#include "checkpoint/save/freeze.h"
#include "checkpoint/save/save.h"
#include "migrate/channel.h"
#include "migrate/journal.h"
#include "migrate/memory_sending.h"
#include "migrate/moving.h"
#include "migrate/pace.h"
#include "migrate/settle.h"
#include "migrate/source.h"

enum {
	FREEZE_TRIES = 20,
	TRIES_UNHELD = 3,
	BETWEEN_TRIES_US = 5000,
};

struct source {
	const struct migrate_options *options;
	struct migrate_statistics *statistics;
	struct migrate_progress progress;
	struct pace pace;
	struct channel *channel; /* owned */
	struct keeper *keeper;   /* owned */
	struct moving *moving;   /* owned: addresses */
	struct journal *journal; /* owned */
	struct saver *saver;     /* owned */
	struct children_wait children;
	struct memory_sending *memory;   /* owned */
	bool is_stale;                   /* some processes are others than in the last draft */
	bool is_drafted_anew;            /* and there has been no round since */
	struct tree_calls *calls;        /* owned */
	struct frozen *frozen;           /* owned */
	struct connections *connections; /* owned */
	struct journal_record record;
	struct settle_keep keep;
	struct keeper_undo undo; /* what the keeper does if we die; borrows from keep */
	struct lock_holder holder;
	int signals_fd;     /* owned; -1: none */
	uint64_t frozen_ns; /* when the freeze began */
	bool is_committed;
	bool is_network_locked; /* by a script */
};

/* Whoever watches is told of a phase, or, where is_step is false, of how far it is. */
void source_tell(struct source *source, const char *phase, bool is_step);

/* Stops the program, for the nth time of FREEZE_TRIES in a row, and lets it go on. */
MUST_USE struct error *source_freeze(struct source *source, int tries, enum obstacle *ret_obstacle);
MUST_USE struct error *source_thaw(struct source *source);

/* The destination makes the processes that it hasn't yet. */
MUST_USE struct error *source_begin_with(struct source *source, const struct image_store *draft, int timeout_ms);

/* A short stop, for what the destination has to know to begin, or to follow the processes that there are by now: all but
 * pages and connections. The other one does so only if they are others than in the last draft. */
MUST_USE struct error *source_send_draft(struct source *source);
MUST_USE struct error *source_follow_processes(struct source *source);

/* One round; or, that we are still there; or all rounds that are worth it. */
MUST_USE struct error *source_send_round(struct source *source);
MUST_USE struct error *source_send_nothing(struct source *source);
MUST_USE struct error *source_send_rounds(struct source *source);
