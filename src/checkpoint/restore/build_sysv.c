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
#include "objects/sysv/queues.h"
#include "objects/sysv/segments.h"
#include "objects/sysv/semaphores.h"
#include "objects/sysv/sysv.h"
#include "task/keeper.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { DEATH_MS = 5000 /* that our death may take until it is known what has become of the program */ };

struct sysv_undo {
	struct lock_holder holder; /* the program */
	struct build_sysv made;
};

/* One that was to go with its last process has gone with that. */
static struct error *remove_made(const struct build_sysv *made)
{
	struct sysv_look there;

	if (sysv_look(made->kind, made->id, &there) < 0 || there.perm.cuid != made->cuid ||
	    ((uint32_t)there.perm.__key != made->key && there.perm.__key != IPC_PRIVATE))
		return NULL;
	return sysv_remove(made->kind, made->id);
}

/* In the keeper: nobody is left to be told of an error. */
static void undo_object(const void *bytes, const int *fds, size_t fd_count)
{
	struct sysv_undo undo;
	bool is_alive = false;

	(void)fds;
	(void)fd_count;
	memcpy(&undo, bytes, sizeof(undo));
	error_free(alive_prove(&undo.holder, DEATH_MS, &is_alive));
	if (!is_alive)
		error_free(remove_made(&undo.made));
}

/* What stays if we die, unless the keeper has been told before. */
static struct error *tell_keeper(const struct build *build, const struct build_sysv *made)
{
	struct sysv_undo undo = {.holder.pid = build_pid(build), .made = *made};
	const struct keeper_undo message = {.undo = undo_object, .bytes = &undo, .size_bytes = sizeof(undo)};
	uint32_t id;

	int r = procfs_start_time(undo.holder.pid, &undo.holder.start_time);
	if (r < 0)
		return error_new(-r, "start time of process %d", undo.holder.pid);
	return keeper_add(build->options.keeper, &message, &id);
}

static struct build_sysv made_of(enum sysv_kind kind, const IpcDescEntry *desc)
{
	return (struct build_sysv){.kind = kind, .id = desc->id, .cuid = desc->cuid, .key = desc->key};
}

/* One that is there by that id isn't ours, or it was left by the program that is restored. */
static struct error *make_room(enum sysv_kind kind, const IpcDescEntry *desc, const GodwitSysvEntry *extra)
{
	struct sysv_look there;

	if (desc->id > INT32_MAX)
		return error_new(EBADMSG, "%s %u", sysv_name(kind), desc->id);
	if (sysv_look(kind, desc->id, &there) < 0)
		return NULL;
	if (sysv_is_left(&there, desc, extra))
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

static struct error *remove_segment(const struct build *build, uint32_t id)
{
	struct sysv_look there;

	(void)build;
	/* One that was to go with its last process has gone with that. */
	return sysv_look(SYSV_SEGMENT, id, &there) < 0 ? NULL : sysv_remove(SYSV_SEGMENT, id);
}

/*
 * Where the program comes from this place in the table is another's by now: what has been made for it before is gone there,
 * and nobody has it attached here.
 */
static struct error *free_place(const struct build *build, uint32_t wanted)
{
	struct error *error = NULL;
	uint64_t id;

	for (size_t i = 0; shared_build_next(build->shared, &i, &id);)
		if (id >= shared_id_of_sysv(0) && sysv_is_same_place((uint32_t)(id - shared_id_of_sysv(0)), wanted))
			error = error_join(error, remove_segment(build, (uint32_t)(id - shared_id_of_sysv(0))));
	return error;
}

static struct error *make_segment(struct build *build, const IpcShmEntry *entry, const GodwitSysvEntry *extra)
{
	const struct build_sysv made = made_of(SYSV_SEGMENT, entry->desc);
	int fd = -1;

	TRY(free_place(build, entry->desc->id));
	TRY(make_room(SYSV_SEGMENT, entry->desc, extra));
	TRY(tell_keeper(build, &made));
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

static struct error *finish_segment(const struct build *build, uint32_t id)
{
	IpcShmEntry *entry;
	auto_error struct error *missing = segments_find(build->store, id, &entry);

	if (missing)
		return remove_segment(build, id);
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

/* ---- Semaphores and queues ---- */

struct makers {
	struct sysv_makers makers;
	const struct build *build;
};

static struct process *find_maker(const struct sysv_makers *makers, uint32_t own_pid)
{
	return find_task(((const struct makers *)(const void *)makers)->build, own_pid);
}

/* From here on it is to be removed if this fails. */
static struct error *prepare(struct build *build, enum sysv_kind kind, const IpcDescEntry *desc)
{
	const struct build_sysv made = made_of(kind, desc);
	GodwitSysvEntry *extra;

	TRY(sysv_get_extra(build->store, kind, desc->id, &extra));
	struct error *error = make_room(kind, desc, extra);
	godwit_sysv_entry__free_unpacked(extra, NULL);
	TRY(error);
	TRY(tell_keeper(build, &made));
	build->sysv = xrealloc(build->sysv, (build->sysv_count + 1) * sizeof(*build->sysv));
	build->sysv[build->sysv_count++] = made;
	return NULL;
}

static struct error *make_set(struct build *build, size_t index, const struct sysv_makers *makers)
{
	ProtobufCMessage *message;

	TRY(image_get(build->store, IMAGE_IPC_SEM, IPC_NAMESPACE_ID, index, &message));
	const IpcSemEntry *entry = (const IpcSemEntry *)message;
	struct error *error = prepare(build, SYSV_SEMAPHORES, entry->desc);
	if (!error)
		error = semaphores_make(entry, index, build->store, makers);
	protobuf_c_message_free_unpacked(message, NULL);
	return error;
}

static struct error *make_queue(struct build *build, uint64_t image_id, const struct sysv_makers *makers)
{
	ProtobufCMessage *message;

	TRY(image_get(build->store, IMAGE_IPC_MSG, image_id, 0, &message));
	const IpcMsgEntry *entry = (const IpcMsgEntry *)message;
	struct error *error = prepare(build, SYSV_QUEUE, entry->desc);
	if (!error)
		error = queue_make(entry, image_id, build->store, makers);
	protobuf_c_message_free_unpacked(message, NULL);
	return error;
}

struct error *build_semaphores_and_queues(struct build *build)
{
	const struct makers makers = {.makers.find = find_maker, .build = build};

	for (size_t i = 0; i < image_count(build->store, IMAGE_IPC_SEM, IPC_NAMESPACE_ID); i++)
		TRY(make_set(build, i, &makers.makers));
	for (uint64_t id = IPC_NAMESPACE_ID; image_count(build->store, IMAGE_IPC_MSG, id) > 0; id++)
		TRY(make_queue(build, id, &makers.makers));
	return NULL;
}

/* ---- When it fails ---- */

void build_sysv_undo(const struct build *build)
{
	error_free(each_segment(build, remove_segment));
	for (size_t i = 0; i < build->sysv_count; i++)
		error_free(remove_made(&build->sysv[i]));
}
