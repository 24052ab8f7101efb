/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Saving a tree of processes: all of it but its pages.
 *
 * A saver is made while the tree runs. It reads what is expensive to read, and finds what can't be carried. In the
 * freeze it asks for the rest, once or, for a migration, several times: what the first save called file 7 stays file
 * 7, so that what was built from it elsewhere can be kept.
 *
 * Tasks go by their index in the tree (saver_live()); what belongs to memory is asked of the task that owns it.
 */
#pragma once

#include "checkpoint/save/freeze.h"
#include "image/store.h"
#include "memory/areas.h"
#include "memory/shared.h"
#include "objects/objects.h"
#include "util/problems.h"

struct saver;

/* Of the tree of pid; saver_look() comes first. options is borrowed until free. */
MUST_USE struct error *saver_new(pid_t pid, const struct carry_options *options, struct saver **ret_saver);
void saver_free(struct saver *saver);
DEFINE_OWNED(struct saver *, saver_free)
#define auto_saver AUTO(saver_free)

/* Reads the running tree, once more if its processes are others by now. On failure the saver is only good for this and for
 * free. */
MUST_USE struct error *saver_look(struct saver *saver);

/* Adds all reasons why the tree can't be carried. */
void saver_check(struct saver *saver, struct problems *problems);

/* Puts into the store what the tree has of files, as far as it can be told while it runs: for the other host to look
 * whether it finds them there. What can't be told is told by saver_save(). */
void saver_sketch(struct saver *saver, struct image_store *store);

/* Forces what the tree has written to servers of files: file_sync.h. A save does it, too, so this is for doing most of it
 * while it runs. */
MUST_USE struct error *saver_sync(struct saver *saver);

/* The tree is frozen: puts everything into the store but pages, and but the connections, which are for connections.h.
 * Doesn't look again at what saver_save_areas() has seen in this freeze. */
MUST_USE struct error *saver_save(struct saver *saver, const struct frozen *frozen, struct image_store *store);

/*
 * Only what has changed about the areas of a task that owns its memory, since the last call or save: into the store go
 * mm-PID.img and the files that are mapped, and which threads there are. frozen is NULL while the program runs. *ret_gone
 * is what isn't mapped any more, or otherwise; the caller frees it. Needs one saver_save() before it. Frozen, the memfds
 * come with the root.
 */
MUST_USE struct error *saver_save_areas(struct saver *saver, size_t task, const struct frozen *frozen,
                                        struct image_store *store, struct ranges *ret_gone);

/* The same while the program runs, which may unmap an area between two questions about it: then all is asked anew, for a
 * new store in the place of the old one. */
MUST_USE struct error *saver_save_moving_areas(struct saver *saver, size_t task, struct image_store **store,
                                               struct ranges *ret_gone);

/* How much memory a save will allocate, roughly, for freeze(). */
size_t saver_room_bytes(const struct saver *saver);

/* Before the tree goes on after a save: see file_table_drop_copies(). */
void saver_drop_copies(struct saver *saver);

/* The tree as of the last look. Borrowed until the next one. */
const struct live_tree *saver_live(const struct saver *saver);
size_t saver_count(const struct saver *saver); /* of tasks */

/* The objects of System V that it has, as of the last look. frozen is NULL while it runs. */
MUST_USE struct error *saver_save_sysv(const struct saver *saver, const struct frozen *frozen,
                                       struct image_store *store);

/* What the root calls itself: it may be in a PID namespace of its own. */
pid_t saver_own_pid(const struct saver *saver);

/* Does it have memory, which none before it has? */
bool saver_owns_memory(const struct saver *saver, size_t task);

/* Its areas as of the last save, or of the last look. Borrowed until the next one. */
const struct areas *saver_areas(const struct saver *saver, size_t task);

/* The root gets a session of its own where it comes to. */
bool saver_is_detached(const struct saver *saver);

struct file_table *saver_files(const struct saver *saver);

/* The shared memory of all, as of then. The caller frees it. */
MUST_USE struct error *saver_shared(const struct saver *saver, struct shared_objects *ret_objects);
