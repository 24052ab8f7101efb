/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Between two commands of a chain of dumps: a small process that keeps what tells written pages, and remembers into which
 * folder the last of them was saved.
 *
 * It listens on /run/godwit/tracker-NAMESPACE-PID-STARTTIME (the PID namespace's number; the program's start time), where
 * only its own user may connect. It ends when the program does, and when a command ends between holder_begin() and
 * holder_done(): what was written since then would be told to nobody. If it is killed, nothing of it stays in the program.
 */
#pragma once

#include <sys/types.h>

#include "memory/tracker.h"
#include "util/error.h"

/* Which folder: st_dev and st_ino. */
struct folder_id {
	uint64_t device, inode;
};

/* Starts it, for pages written since they were saved into folder. kept is borrowed. */
MUST_USE struct error *holder_start(pid_t pid, const struct tracker_kept *kept, const struct folder_id *folder);

/* A connection to a holder: a command at work. */
struct holder;

/* *ret_holder is NULL where the program has none. ret_kept.fd is a copy, and the caller's. */
MUST_USE struct error *holder_find(pid_t pid, struct holder **ret_holder, struct tracker_kept *ret_kept,
                                   struct folder_id *ret_folder);

/* From here on written pages are told anew, and the chain ends unless holder_done() follows. */
MUST_USE struct error *holder_begin(struct holder *holder);

/* All that was told is saved in this folder. */
MUST_USE struct error *holder_done(struct holder *holder, const struct folder_id *folder);

void holder_free(struct holder *holder);
DEFINE_OWNED(struct holder *, holder_free)
#define auto_holder AUTO(holder_free)
