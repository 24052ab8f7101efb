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

/* task_state of a core image. */
enum { TASK_ALIVE = 1, TASK_DEAD = 2, TASK_STOPPED = 3, TASK_ZOMBIE = 6 };

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

static struct error *check_pstree(const PstreeEntry *pstree)
{
	TRY(check_pid(pstree->pid));
	if (pstree->n_threads == 0 || pstree->n_threads > THREADS_MAX || pstree->threads[0] != pstree->pid)
		return error_new(EBADMSG, "process %u of %zu threads", pstree->pid, pstree->n_threads);
	for (size_t i = 0; i < pstree->n_threads; i++)
		TRY(check_pid(pstree->threads[i]));
	return NULL;
}

/* ---- The tree ---- */

static bool is_dead_state(uint32_t task_state)
{
	return task_state == TASK_DEAD || task_state == TASK_ZOMBIE;
}

static struct error *read_ids(const struct image_store *store, struct tree_task *task)
{
	ProtobufCMessage *message;

	TRY(get_only(store, IMAGE_IDS, (uint64_t)task->pid, &message));
	TaskKobjIdsEntry *ids = (TaskKobjIdsEntry *)message;
	task->ids[SHARED_VM] = ids->vm_id;
	task->ids[SHARED_FILES] = ids->files_id;
	task->ids[SHARED_FS] = ids->fs_id;
	task->ids[SHARED_SIGHAND] = ids->sighand_id;
	task_kobj_ids_entry__free_unpacked(ids, NULL);
	return NULL;
}

/* Whether it is dead, only its core image tells. */
static struct error *read_life(const struct image_store *store, struct tree_task *task)
{
	ProtobufCMessage *message;

	TRY(get_only(store, IMAGE_CORE, (uint64_t)task->pid, &message));
	CoreEntry *core = (CoreEntry *)message;
	task->is_zombie = core->tc && is_dead_state(core->tc->task_state);
	task->exit_code = task->is_zombie ? (int)core->tc->exit_code : 0;
	core_entry__free_unpacked(core, NULL);
	return task->is_zombie ? NULL : read_ids(store, task);
}

static struct error *add_task(const struct image_store *store, const PstreeEntry *pstree, struct tree *tree)
{
	int parent = tree->count ? tree_find(tree, (pid_t)pstree->ppid) : TREE_NO_PARENT;

	TRY(check_pstree(pstree));
	if (tree->count && (parent < 0 || tree->tasks[parent].is_zombie))
		return error_new(EBADMSG, "process %u has the parent %u, which isn't there", pstree->pid, pstree->ppid);
	if (tree_find(tree, (pid_t)pstree->pid) >= 0)
		return error_new(EBADMSG, "process %u is there twice", pstree->pid);
	struct tree_task *task = tree_add(tree, parent);
	task->pid = (pid_t)pstree->pid;
	task->group = (pid_t)pstree->pgid;
	task->session = (pid_t)pstree->sid;
	return read_life(store, task);
}

struct error *model_read_tree(const struct image_store *store, struct tree *ret_tree)
{
	auto_tree struct tree tree = {0};
	size_t count = image_count(store, IMAGE_PSTREE, 0);

	TRY(check_version(store));
	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_PSTREE, 0, i, &message));
		struct error *error = add_task(store, (const PstreeEntry *)message, &tree);
		pstree_entry__free_unpacked((PstreeEntry *)message, NULL);
		TRY(error);
	}
	if (count == 0)
		return error_new(ENODATA, "pstree.img has no process");
	if (tree.tasks[0].is_zombie)
		return error_new(EBADMSG, "pstree.img: process %d, the first one, is dead", tree.tasks[0].pid);
	*ret_tree = tree;
	tree = (struct tree){0};
	return NULL;
}

/* ---- A process ---- */

static struct error *read_pstree(struct model *model, size_t task)
{
	ProtobufCMessage *message;

	TRY(image_get(model->store, IMAGE_PSTREE, 0, task, &message));
	model->pstree = (PstreeEntry *)message;
	TRY(check_pstree(model->pstree));
	model->pid = (pid_t)model->pstree->pid;
	model->thread_count = model->pstree->n_threads;
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
	if (thread == 0 && core->tc->task_state != TASK_ALIVE && core->tc->task_state != TASK_STOPPED)
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

static struct error *read_threads(struct model *model)
{
	model->cores = calloc(model->thread_count, sizeof(CoreEntry *));
	model->extras = calloc(model->thread_count, sizeof(GodwitThreadEntry *));
	if (!model->cores || !model->extras)
		return error_new(ENOMEM, "%zu threads", model->thread_count);
	for (size_t i = 0; i < model->thread_count; i++) {
		TRY(read_core(model, i));
		TRY(read_extra(model, i));
	}
	return NULL;
}

/* Of a zombie there is nothing but the core image. */
static struct error *read_zombie(struct model *model)
{
	ProtobufCMessage *message;

	model->cores = xalloc(sizeof(CoreEntry *));
	model->thread_count = 1;
	TRY(get_only(model->store, IMAGE_CORE, (uint64_t)model->pid, &message));
	model->cores[0] = (CoreEntry *)message;
	return model->cores[0]->tc ? NULL : error_new(EBADMSG, "core-%d.img is incomplete", model->pid);
}

static struct error *read_memory(struct model *model)
{
	ProtobufCMessage *message;

	TRY(get_only(model->store, IMAGE_MM, (uint64_t)model->pid, &message));
	model->mm = (MmEntry *)message;
	return check_areas(model->mm);
}

struct error *model_read(const struct image_store *store, const struct tree *tree, size_t task,
                         struct model **ret_model)
{
	auto_model struct model *model = xalloc(sizeof(*model));
	ProtobufCMessage *message;

	model->store = store;
	TRY(read_pstree(model, task));
	if (tree->tasks[task].is_zombie) {
		TRY(read_zombie(model));
		*ret_model = take(model);
		return NULL;
	}
	TRY(read_threads(model));
	TRY(get_only(store, IMAGE_IDS, (uint64_t)model->pid, &message));
	model->ids = (TaskKobjIdsEntry *)message;
	if (tree_owns(tree, SHARED_VM, task))
		TRY(read_memory(model));
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
