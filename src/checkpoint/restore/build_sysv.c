/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Objects of System V of a program that is built. They belong to the host, with their ids, and outlive their makers; so
 * the keeper removes them if we die before the program lives without us.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "checkpoint/alive.h"
#include "checkpoint/restore/building.h"
#include "memory/shared.h"
#include "objects/sysv/segments.h"
#include "objects/sysv/sysv.h"
#include "task/keeper.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { DEATH_MS = 5000 /* that our death may take until it is known what has become of the program */ };

struct sysv_undo {
	struct lock_holder holder; /* the program */
	enum sysv_kind kind;
	uint32_t id, cuid, key;
};

/* In the keeper: nobody is left to be told of an error. */
static void undo_object(const void *bytes, const int *fds, size_t fd_count)
{
	struct sysv_undo undo;
	struct sysv_look there;
	bool is_alive = false;

	(void)fds;
	(void)fd_count;
	memcpy(&undo, bytes, sizeof(undo));
	error_free(alive_prove(&undo.holder, DEATH_MS, &is_alive));
	if (is_alive || sysv_look(undo.kind, undo.id, &there) < 0 || there.perm.cuid != undo.cuid ||
	    ((uint32_t)there.perm.__key != undo.key && there.perm.__key != IPC_PRIVATE))
		return;
	error_free(sysv_remove(undo.kind, undo.id));
}

/* What stays if we die, unless the keeper has been told before. */
static struct error *tell_keeper(const struct build *build, enum sysv_kind kind, const IpcDescEntry *desc)
{
	struct sysv_undo undo = {
		.holder.pid = build_pid(build),
		.kind = kind,
		.id = desc->id,
		.cuid = desc->cuid,
		.key = desc->key,
	};
	const struct keeper_undo message = {.undo = undo_object, .bytes = &undo, .size_bytes = sizeof(undo)};
	uint32_t id;

	int r = procfs_start_time(undo.holder.pid, &undo.holder.start_time);
	if (r < 0)
		return error_new(-r, "start time of process %d", undo.holder.pid);
	return keeper_add(build->options.keeper, &message, &id);
}

/* One that is there by that id isn't ours, or it was left by the program that is restored. */
static struct error *make_room(enum sysv_kind kind, const IpcDescEntry *desc, const GodwitSysvEntry *extra)
{
	struct sysv_look there;

	if (desc->id > INT32_MAX)
		return error_new(EBADMSG, "%s %u", sysv_name(kind), desc->id);
	if (sysv_look(kind, desc->id, &there) < 0)
		return NULL;
	if (sysv_is_left(&there, desc, extra->changed_s))
		return sysv_remove(kind, desc->id);
	auto_free char *removal = sysv_removal(kind, desc->id);
	return error_hint(error_new(EEXIST, "%s %u is in use here", sysv_name(kind), desc->id),
	                  "if it is of no use any more: %s", removal);
}

/* The process with that PID of the program's or, if there is none any more, the root. */
static struct process *find_task(const struct build *build, uint32_t own_pid)
{
	int at = own_pid ? tree_find(&build->tree, (pid_t)own_pid) : -1;

	return at >= 0 && build->tasks[at]->process ? build->tasks[at]->process : build_root(build)->process;
}

/* ---- Segments ---- */

static struct error *make_segment(struct build *build, const IpcShmEntry *entry, const GodwitSysvEntry *extra)
{
	int fd = -1;

	TRY(make_room(SYSV_SEGMENT, entry->desc, extra));
	TRY(tell_keeper(build, SYSV_SEGMENT, entry->desc));
	TRY(segment_make(find_task(build, extra->n_pids ? extra->pids[0] : 0), entry));
	struct error *error = segment_open(entry->desc->id, &fd);
	if (error)
		return error_join(error, sysv_remove(SYSV_SEGMENT, entry->desc->id));
	shared_build_add(build->shared, shared_id_of_sysv(entry->desc->id), fd);
	return NULL;
}

struct error *build_segment_make(struct build *build, const struct image_store *store, uint32_t id)
{
	IpcShmEntry *entry;
	GodwitSysvEntry *extra = NULL;

	if (shared_build_find(build->shared, shared_id_of_sysv(id)) >= 0)
		return NULL;
	TRY(segments_find(store, id, &entry));
	struct error *error = sysv_get_extra(store, SYSV_SEGMENT, id, &extra);
	if (!error)
		error = make_segment(build, entry, extra);
	ipc_shm_entry__free_unpacked(entry, NULL);
	if (extra)
		godwit_sysv_entry__free_unpacked(extra, NULL);
	return error;
}

/* Calls for each that has been made. */
static struct error *each_segment(const struct build *build, struct error *(*call)(const struct build *, uint32_t id))
{
	struct error *error = NULL;
	uint64_t id;

	for (size_t i = 0; build->shared && shared_build_next(build->shared, &i, &id);)
		if (id >= shared_id_of_sysv(0))
			error = error_join(error, call(build, (uint32_t)(id - shared_id_of_sysv(0))));
	return error;
}

static struct error *finish_segment(const struct build *build, uint32_t id)
{
	IpcShmEntry *entry;
	auto_error struct error *missing = segments_find(build->store, id, &entry);

	if (missing)
		return sysv_remove(SYSV_SEGMENT, id);
	struct error *error = shared_build_resize(build->shared, shared_id_of_sysv(id), entry->size, true);
	if (!error)
		error = segment_finish(entry);
	ipc_shm_entry__free_unpacked(entry, NULL);
	return error;
}

struct error *build_segments_finish(struct build *build)
{
	return each_segment(build, finish_segment);
}

static struct error *remove_segment(const struct build *build, uint32_t id)
{
	struct sysv_look there;

	(void)build;
	/* One that was to go with its last process has gone with that. */
	return sysv_look(SYSV_SEGMENT, id, &there) < 0 ? NULL : sysv_remove(SYSV_SEGMENT, id);
}

void build_sysv_undo(const struct build *build)
{
	error_free(each_segment(build, remove_segment));
}
