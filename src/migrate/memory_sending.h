/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The memory of a tree of processes as it goes over: a tracker for each process that owns some, and what they share, once.
 * Processes that have come, gone or become other programs since the last draft are not followed: that is for the next one.
 */
#pragma once

#include "checkpoint/save/save.h"
#include "memory/tracker.h"
#include "migrate/page_sending.h"

struct memory_sending;

/* Never NULL. Without tracking there are no rounds: all goes in the freeze. */
struct memory_sending *memory_sending_new(bool is_tracking, enum track track);
void memory_sending_free(struct memory_sending *memory);
DEFINE_OWNED(struct memory_sending *, memory_sending_free)

/* How written pages are told, a literal; NULL: nobody tells. */
const char *memory_sending_way(const struct memory_sending *memory);

/* The tree of a draft stands still: begins to track the processes that are not tracked yet. */
MUST_USE struct error *memory_sending_track(struct memory_sending *memory, const struct saver *saver,
                                            const struct frozen *frozen);

/* It runs again: gives up those that have gone. That takes time. */
void memory_sending_sweep(struct memory_sending *memory, const struct saver *saver);

/* The other end has nothing of these (own PIDs with spaces between them) yet. */
void memory_sending_begin_anew(struct memory_sending *memory, const char *own_pids);

/* A round, while the tree runs. *ret_is_stale: some of it isn't what it was in the draft. */
MUST_USE struct error *memory_sending_round(struct memory_sending *memory, struct saver *saver,
                                            struct page_sending *sending, bool *ret_is_stale);

/* About how many pages are left. */
MUST_USE struct error *memory_sending_count(struct memory_sending *memory, const struct saver *saver,
                                            uint64_t *ret_pages);

/* Runs frozen: where the areas are, and then the last pages. */
MUST_USE struct error *memory_sending_areas(struct memory_sending *memory, struct saver *saver,
                                            const struct frozen *frozen, struct channel *channel);
MUST_USE struct error *memory_sending_last(struct memory_sending *memory, const struct saver *saver,
                                           const struct frozen *frozen, struct page_sending *sending);
