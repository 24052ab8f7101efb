/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Locks and leases that a program has on files: flock(2), fcntl(2) (POSIX, OFD, leases). filelocks.img.
 *
 * fdinfo tells them. They are taken by the task that is restored, once all its files are in their places. On a file
 * system that both hosts share, the program that was moved still has them then: such a lock is busy, and taken when that
 * one has ended and before the program goes on here.
 */
#pragma once

#include "objects/objects.h"

/* NULL, or why the locks on this file can't be carried. */
MUST_USE struct error *file_locks_check(const struct open_file *file);

/* Puts the locks of all descriptions into the store. Runs frozen. */
MUST_USE struct error *file_locks_save(const struct open_files *files, struct image_store *store);

/* Those that somebody else has. */
struct file_locks {
	struct file_lock *list; /* owned */
	size_t count;
};
void file_locks_free(struct file_locks *locks);

/* Takes the locks that the store has for a parked process whose descriptors are in their places, but for those that are
 * busy. takes_orphans: also those for which it doesn't say whose they are. */
MUST_USE struct error *file_locks_take(const struct image_store *store, struct process *process, bool takes_orphans,
                                       struct file_locks *ret_busy);

/* Says which are busy: never NULL where there are any. */
MUST_USE struct error *file_locks_refusal(const struct file_locks *busy, pid_t pid);

/* Takes those that have become free, in a process that has been completed and stands still. They leave the list. */
void file_locks_take_late(struct file_locks *busy, struct process *process);
