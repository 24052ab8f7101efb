/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Saving a process: all of it but its pages.
 *
 * A saver is made while the process runs. It reads what is expensive to read, and finds what can't be carried. In the
 * freeze it asks for the rest, once or, for a migration, several times: what the first save called file 7 stays file
 * 7, so that what was built from it elsewhere can be kept.
 */
#pragma once

#include "image/store.h"
#include "memory/areas.h"
#include "memory/shared.h"
#include "objects/objects.h"
#include "task/process.h"
#include "util/problems.h"

struct saver;

/* Reads the running process. options is borrowed until free. */
MUST_USE struct error *saver_new(pid_t pid, const struct carry_options *options, struct saver **ret_saver);
void saver_free(struct saver *saver);
DEFINE_OWNED(struct saver *, saver_free)
#define auto_saver AUTO(saver_free)

/* Adds all reasons why the process can't be carried. */
void saver_check(struct saver *saver, struct problems *problems);

/* Forces what the process has written to servers of files: file_sync.h. A save does it, too, so this is for doing most of it
 * while the process runs. */
MUST_USE struct error *saver_sync(struct saver *saver);

/* The process is parked and the FPU state has been read: puts everything into the store but pages, and but the
 * connections, which are for connections.h. Doesn't look again at what saver_save_areas() has seen in this freeze. */
MUST_USE struct error *saver_save(struct saver *saver, struct process *process, struct image_store *store);

/*
 * Only what has changed about the areas since the last call or save: into the store go mm-PID.img and the files that are
 * mapped, and which threads there are. process is NULL while the program runs. *ret_gone is what isn't mapped any more, or otherwise; the caller frees
 * it. Needs one saver_save() before it. Frozen, the memfds come with it.
 */
MUST_USE struct error *saver_save_areas(struct saver *saver, struct process *process, struct image_store *store,
                                        struct ranges *ret_gone);

/* The same while the program runs, which may unmap an area between two questions about it: then all is asked anew, for a
 * new store in the place of the old one. */
MUST_USE struct error *saver_save_moving_areas(struct saver *saver, struct image_store **store,
                                               struct ranges *ret_gone);

/* How much memory a save will allocate, roughly, for freeze(). */
size_t saver_room_bytes(const struct saver *saver);

/* Before the process goes on after a save: see file_table_drop_copies(). */
void saver_drop_copies(struct saver *saver);

/* The areas as of the last save, or of the time when the saver was made. Borrowed until the next save. */
/* What the program calls itself: it may be in a PID namespace of its own. */
pid_t saver_own_pid(const struct saver *saver);

const struct areas *saver_areas(const struct saver *saver);
/* It gets a session of its own where it comes to. */
bool saver_is_detached(const struct saver *saver);

struct file_table *saver_files(const struct saver *saver);

/* Its shared memory, as of then. The caller frees it. */
MUST_USE struct error *saver_shared(const struct saver *saver, struct shared_objects *ret_objects);
