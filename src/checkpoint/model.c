/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "checkpoint/model.h"
#include "inventory.pb-c.h"
#include "util/alloc.h"

enum {
	PID_MAX = 1 << 22, /* PID_MAX_LIMIT: proc(5), /proc/sys/kernel/pid_max */
	THREADS_MAX = 1 << 20,
};

static struct error *get_only(const struct image_store *store, enum image_kind kind, uint64_t id,
                              ProtobufCMessage **ret_message)
{
	return image_get(store, kind, id, 0, ret_message);
}

/* 1 and 2 differ in nothing that is read here. */
static struct error *check_version(const struct image_store *store)
{
	ProtobufCMessage *message;

	TRY(get_only(store, IMAGE_INVENTORY, 0, &message));
	uint32_t version = ((InventoryEntry *)message)->img_version;
	inventory_entry__free_unpacked((InventoryEntry *)message, NULL);
	if (version == 1 || version == 2)
		return NULL;
	return error_hint(error_new(ENOTSUP, "inventory.img: images of version %u; this is read: 1 and 2", version),
	                  "restore them with what has saved them, or with a later godwit");
}

static struct error *check_pid(uint32_t pid)
{
	return pid == 0 || pid > PID_MAX ? error_new(EBADMSG, "PID %u", pid) : NULL;
}

static struct error *read_pstree(struct model *model)
{
	ProtobufCMessage *message;

	size_t count = image_count(model->store, IMAGE_PSTREE, 0);
	if (count > 1)
		return error_new(ENOTSUP, "image of %zu processes: only single processes can be restored", count);
	TRY(get_only(model->store, IMAGE_PSTREE, 0, &message));
	model->pstree = (PstreeEntry *)message;
	TRY(check_pid(model->pstree->pid));
	model->pid = (pid_t)model->pstree->pid;
	model->thread_count = model->pstree->n_threads;
	if (model->thread_count == 0 || model->thread_count > THREADS_MAX ||
	    model->pstree->threads[0] != model->pstree->pid)
		return error_new(EBADMSG, "process %u of %zu threads", model->pstree->pid, model->thread_count);
	for (size_t i = 0; i < model->thread_count; i++)
		TRY(check_pid(model->pstree->threads[i]));
	return NULL;
}

static struct error *read_core(struct model *model, size_t thread)
{
	uint32_t tid = model->pstree->threads[thread];
	ProtobufCMessage *message;

	TRY(get_only(model->store, IMAGE_CORE, tid, &message));
	CoreEntry *core = (CoreEntry *)message;
	model->cores[thread] = core;
	if (!core->thread_core || (thread == 0 && !core->tc))
		return error_new(EBADMSG, "core-%u.img is incomplete", tid);
	if (thread == 0 && core->tc->task_state != 1 && core->tc->task_state != 3)
		return error_new(ENOTSUP, "core-%u.img is of a task in state %u", tid, core->tc->task_state);
	return NULL;
}

/* One of another program's making has none. */
static struct error *read_extra(struct model *model, size_t thread)
{
	uint32_t tid = model->pstree->threads[thread];
	ProtobufCMessage *message;

	if (image_count(model->store, IMAGE_GODWIT_THREADS, (uint64_t)model->pid) == 0) {
		model->extras[thread] = xalloc(sizeof(*model->extras[thread]));
		godwit_thread_entry__init(model->extras[thread]);
		return NULL;
	}
	TRY(image_get(model->store, IMAGE_GODWIT_THREADS, (uint64_t)model->pid, thread, &message));
	model->extras[thread] = (GodwitThreadEntry *)message;
	if (model->extras[thread]->tid != tid)
		return error_new(EBADMSG, "threads.godwit has thread %u in the place of %u", model->extras[thread]->tid,
		                 tid);
	return NULL;
}

/* Ascending, no overlap, whole pages: the rest of what is wrong with an area, mmap(2) will say. */
static struct error *check_areas(const MmEntry *mm)
{
	uint64_t last_end = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *vma = mm->vmas[i];

		if (vma->start < last_end || vma->end <= vma->start || vma->start % 4096 || vma->end % 4096)
			return error_new(EBADMSG, "area %#llx-%#llx", (unsigned long long)vma->start,
			                 (unsigned long long)vma->end);
		last_end = vma->end;
	}
	return NULL;
}

struct error *model_read(const struct image_store *store, struct model **ret_model)
{
	auto_model struct model *model = xalloc(sizeof(*model));
	ProtobufCMessage *message;

	model->store = store;
	TRY(check_version(store));
	TRY(read_pstree(model));
	model->cores = calloc(model->thread_count, sizeof(CoreEntry *));
	model->extras = calloc(model->thread_count, sizeof(GodwitThreadEntry *));
	if (!model->cores || !model->extras)
		return error_new(ENOMEM, "%zu threads", model->thread_count);
	for (size_t i = 0; i < model->thread_count; i++) {
		TRY(read_core(model, i));
		TRY(read_extra(model, i));
	}
	TRY(get_only(store, IMAGE_IDS, (uint64_t)model->pid, &message));
	model->ids = (TaskKobjIdsEntry *)message;
	TRY(get_only(store, IMAGE_MM, (uint64_t)model->pid, &message));
	model->mm = (MmEntry *)message;
	TRY(check_areas(model->mm));
	TRY(get_only(store, IMAGE_FS, (uint64_t)model->pid, &message));
	model->fs = (FsEntry *)message;
	*ret_model = take(model);
	return NULL;
}

void model_free(struct model *model)
{
	if (!model)
		return;
	for (size_t i = 0; model->cores && i < model->thread_count; i++)
		if (model->cores[i])
			core_entry__free_unpacked(model->cores[i], NULL);
	free(model->cores);
	for (size_t i = 0; model->extras && i < model->thread_count; i++)
		if (model->extras[i])
			godwit_thread_entry__free_unpacked(model->extras[i], NULL);
	free(model->extras);
	if (model->pstree)
		pstree_entry__free_unpacked(model->pstree, NULL);
	if (model->ids)
		task_kobj_ids_entry__free_unpacked(model->ids, NULL);
	if (model->mm)
		mm_entry__free_unpacked(model->mm, NULL);
	if (model->fs)
		fs_entry__free_unpacked(model->fs, NULL);
	free(model);
}
