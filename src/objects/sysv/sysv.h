/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What System V shared memory, semaphores and message queues have in common (svipc(7)): an id, a key, an owner.
 *
 * An id is a place in a table and a count of how often that was taken; the next one can be asked for by
 * /proc/sys/kernel/{shm,sem,msg}_next_id (CONFIG_CHECKPOINT_RESTORE), and is had if its place is free.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/types.h>

#include "godwit-ipc.pb-c.h"
#include "image/store.h"
#include "ipc-desc.pb-c.h"
#include "objects/objects.h"
#include "task/process.h"
#include "util/error.h"

enum sysv_kind { SYSV_SEGMENT, SYSV_SEMAPHORES, SYSV_QUEUE, SYSV_KIND_COUNT };

/* The processes that are carried together. */
struct sysv_users {
	const struct open_task *tasks; /* borrowed */
	size_t count;
};

/* 0: it is none of them. */
uint32_t sysv_own_pid(const struct sysv_users *users, pid_t pid);

/* "System V shared memory" … */
const char *sysv_name(enum sysv_kind kind);

/* "ipcrm -m 7": what the user can do about it. The caller frees. */
char *sysv_removal(enum sysv_kind kind, uint32_t id);

/* What the kernel tells of all of them. */
struct sysv_look {
	struct ipc_perm perm;
	uint64_t changed_s;      /* ctime: since 1970 */
	uint64_t used_s;         /* the last use of semaphores or a queue: since 1970; 0: never */
	uint64_t attached_count; /* of a segment */
	pid_t creator;           /* of a segment */
};

/* Negative errno: there is none. */
int sysv_look(enum sysv_kind kind, uint32_t id, struct sysv_look *ret_look);

/*
 * Is the object that is there by this id the one that was saved, left by a program that has ended? Then it may make room for
 * its copy.
 */
bool sysv_is_left(const struct sysv_look *there, const IpcDescEntry *desc, const GodwitSysvEntry *extra);

/* The ids of all that there are here. The caller frees them. */
void sysv_list(enum sysv_kind kind, int **ret_ids, size_t *ret_count);

void sysv_describe(const struct ipc_perm *perm, uint32_t id, IpcDescEntry *ret_desc);

/* Have they the same place in the kernel's table? Two such can't be there at once. */
static inline bool sysv_is_same_place(uint32_t id, uint32_t other)
{
	enum { PLACES = 32768 }; /* ipcmni_extend on the kernel's command line makes that larger */

	return id % PLACES == other % PLACES;
}

/* Removes it; a segment goes with the last process that has it attached. */
MUST_USE struct error *sysv_remove(enum sysv_kind kind, uint32_t id);

/* Raw bytes in the images go on up to a multiple of 8. */
static inline size_t sysv_padded(size_t size_bytes)
{
	return (size_bytes + 7) & ~(size_t)7;
}

/* ---- What the images have no field for ---- */

struct sysv_extra {
	uint64_t changed_s;
	bool is_used;         /* of semaphores: sem_otime isn't 0 */
	const uint32_t *pids; /* borrowed */
	size_t pid_count;
	GodwitSysvUndo *const *undos; /* borrowed */
	size_t undo_count;
};
void sysv_put_extra(enum sysv_kind kind, uint32_t id, const struct sysv_extra *extra, struct image_store *store);

/* An empty one if the image doesn't say. The caller frees. */
MUST_USE struct error *sysv_get_extra(const struct image_store *store, enum sysv_kind kind, uint32_t id,
                                      GodwitSysvEntry **ret_entry);

/* ---- Making ---- */

/* The next object of that kind, whoever makes it, gets that id, if that is free. */
MUST_USE struct error *sysv_ask_for_id(enum sysv_kind kind, uint32_t id);

/*
 * Creates an object in a task of ours, by the call with these three arguments (sysv_flags() is one of them), as the user and
 * group who are to be its creator.
 */
MUST_USE struct error *sysv_create(struct process *task, enum sysv_kind kind, const IpcDescEntry *desc,
                                   const struct arg arguments[3]);
uint64_t sysv_flags(const IpcDescEntry *desc);

/* Owner and mode, by IPC_SET. */
MUST_USE struct error *sysv_set_owner(enum sysv_kind kind, const IpcDescEntry *desc);
