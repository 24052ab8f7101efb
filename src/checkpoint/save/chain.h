/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A chain of folders, each of which has only the pages that were written since the one before it, its parent: the
 * symbolic link "parent" points to that, as in CRIU.
 *
 *     chain_open()      is there a parent, and does anyone know what was written since?
 *     chain_tracker()   what tells written pages; chain_track() makes one where there is none
 *     chain_parent()    the pages that the parent has
 *     chain_done()      this folder may be the next one's parent
 *
 * Where nobody knows, all pages are saved, and chain_take_warning() says why.
 */
#pragma once

#include "memory/tracker.h"
#include "util/error.h"
#include "util/ranges.h"

struct chain;

/* images_dir_fd and parent_dir, which is named from there (NULL: none is wanted), are borrowed until free. */
MUST_USE struct error *chain_open(pid_t pid, int images_dir_fd, const char *parent_dir, struct chain **ret_chain);

/* The link to the parent goes if the chain isn't done. */
void chain_free(struct chain *chain);
DEFINE_OWNED(struct chain *, chain_free)
#define auto_chain_of_folders AUTO(chain_free)

/* Its next round sends what the parent doesn't have, all where there is no parent. NULL: there is none. */
struct tracker *chain_tracker(const struct chain *chain);

/* The pages that the parent has; NULL: there is no parent. */
const struct ranges *chain_parent(const struct chain *chain);

/* Begins to track written pages by a batch in the process, which is parked. Where that can't be, it is a warning. */
MUST_USE struct error *chain_track(struct chain *chain, struct process *process);

/* Before a round of the tracker: from here on the chain is broken if it isn't done. */
MUST_USE struct error *chain_begin(struct chain *chain);

/* All is saved. is_over: the program has been ended, and the chain with it. */
MUST_USE struct error *chain_done(struct chain *chain, bool is_over);

/* Why all pages are saved although less was asked for; NULL: they aren't. The caller frees. chain may be NULL. */
char *chain_take_warning(struct chain *chain);
