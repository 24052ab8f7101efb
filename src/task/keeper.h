/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The keeper: a small child that undoes, when this process dies, what the kernel doesn't undo by itself.
 *
 * Each undo is registered before the act, with all it needs (names, values, copies of descriptors), and withdrawn when
 * the act has been undone or shall stay. When our end of the keeper's socket closes, it runs those that are left, the
 * last one first, and ends. It sits in a session of its own, so that Ctrl-C means us alone, and in the root cgroup where
 * that is allowed, so that the end of our cgroup (systemd stops a unit) isn't its own.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

struct keeper;

enum { KEEPER_BYTES_MAX = 512, KEEPER_FDS_MAX = 64 };

/* What to undo. The function runs in the keeper, a copy of this program as of keeper_start(): it may use nothing of
 * this process but what is passed to it. Nobody sees an error of it. */
struct keeper_undo {
	void (*undo)(const void *bytes, const int *fds, size_t fd_count);
	const void *bytes;
	size_t size_bytes; /* at most KEEPER_BYTES_MAX */
	const int *fds;    /* borrowed: the keeper gets copies */
	size_t fd_count;   /* at most KEEPER_FDS_MAX */
};

/* Call it early, while the process has one thread and little memory. */
MUST_USE struct error *keeper_start(struct keeper **ret_keeper);

/* Registers an undo and returns when the keeper has it. */
MUST_USE struct error *keeper_add(struct keeper *keeper, const struct keeper_undo *undo, uint32_t *ret_id);

/* Withdraws one; 0 does nothing. */
MUST_USE struct error *keeper_drop(struct keeper *keeper, uint32_t id);

/*
 * Withdraws all that are left and registers one instead (NULL: none), as one act: from here on our death has another
 * meaning.
 */
MUST_USE struct error *keeper_commit(struct keeper *keeper, const struct keeper_undo *undo);

/* Withdraws all that are left and ends the keeper. NULL does nothing. */
void keeper_stop(struct keeper *keeper);
DEFINE_OWNED(struct keeper *, keeper_stop)
#define auto_keeper AUTO(keeper_stop)
