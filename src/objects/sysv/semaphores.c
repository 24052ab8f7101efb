/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>

#include "objects/sysv/semaphores.h"
#include "objects/sysv/undo.h"
#include "util/alloc.h"
#include "util/negative_errno.h"

enum { ROOM = 4 /* calls, in a batch */ };

/* The last argument of semctl(2), which the caller has to declare. */
union semun {
	int value;
	struct semid_ds *set;
	unsigned short *values;
};

/* ---- Looking ---- */

static int count_of(uint32_t id, struct semid_ds *ret_set)
{
	return semctl((int)id, 0, IPC_STAT, (union semun){.set = ret_set}) < 0 ? negative_errno() : 0;
}

int semaphores_users(uint32_t id, pid_t **ret_pids, size_t *ret_count)
{
	struct semid_ds set = {0};
	int r = count_of(id, &set);

	if (r < 0)
		return r;
	*ret_pids = xalloc(set.sem_nsems * sizeof(pid_t));
	*ret_count = set.sem_nsems;
	for (size_t i = 0; i < set.sem_nsems; i++) {
		int pid = semctl((int)id, (int)i, GETPID);

		(*ret_pids)[i] = pid < 0 ? 0 : pid;
	}
	return 0;
}

size_t semaphores_waiters(uint32_t id)
{
	struct semid_ds set = {0};
	size_t waiters = 0;

	if (count_of(id, &set) < 0)
		return 0;
	for (size_t i = 0; i < set.sem_nsems; i++) {
		int increase = semctl((int)id, (int)i, GETNCNT);
		int zero = semctl((int)id, (int)i, GETZCNT);

		waiters += (size_t)(increase < 0 ? 0 : increase) + (size_t)(zero < 0 ? 0 : zero);
	}
	return waiters;
}

/* ---- Saving ---- */

/* Of one set. */
struct saving {
	uint32_t id;
	const struct semid_ds *set;
	const unsigned short *values;
	const struct sysv_users *users;
	GodwitSysvUndo **undos; /* owned, as what they point to */
	pid_t *undo_pids;       /* owned */
	size_t undo_count;
};

static void saving_free(struct saving *saving)
{
	for (size_t i = 0; i < saving->undo_count; i++) {
		free(saving->undos[i]->numbers);
		free(saving->undos[i]);
	}
	free(saving->undos);
	free(saving->undo_pids);
}

/* All threads of a process have one list, if it is made as threads are; and no two processes. */
static struct error *check_list(const struct saving *saving, const struct process *process)
{
	pid_t common = 0;

	for (size_t i = 1; i < process->thread_count; i++)
		if (!undo_is_common(process->pid, process->threads[i].tid))
			common = process->threads[i].tid;
	for (size_t i = 0; i < saving->undo_count; i++)
		if (undo_is_common(process->pid, saving->undo_pids[i]))
			common = saving->undo_pids[i];
	if (!common)
		return NULL;
	return error_hint(
		error_new(ENOTSUP,
	                  "System V semaphores %u: what SEM_UNDO has to undo for process %d and for %d isn't as "
	                  "threads and processes have it",
	                  saving->id, process->pid, common),
		"only a program that calls clone(2) itself can do that (CLONE_SYSVSEM)");
}

static struct error *read_undo(struct saving *saving, struct process *process)
{
	size_t count = saving->set->sem_nsems;
	auto_free int32_t *numbers = xalloc(count * sizeof(*numbers));
	bool is_any;

	if (!undo_is_possible(process->pid))
		return NULL;
	TRY(undo_read(process, saving->id, saving->values, count, numbers, &is_any));
	if (!is_any)
		return NULL;
	TRY(check_list(saving, process));
	GodwitSysvUndo *undo = xalloc(sizeof(*undo));
	godwit_sysv_undo__init(undo);
	undo->pid = (uint32_t)process->own_pid;
	undo->numbers = take(numbers);
	undo->n_numbers = count;
	saving->undos = xrealloc(saving->undos, (saving->undo_count + 1) * sizeof(*saving->undos));
	saving->undo_pids = xrealloc(saving->undo_pids, (saving->undo_count + 1) * sizeof(pid_t));
	saving->undo_pids[saving->undo_count] = process->pid;
	saving->undos[saving->undo_count++] = undo;
	return NULL;
}

static void put_extra(const struct saving *saving, struct image_store *store)
{
	auto_free uint32_t *own_pids = NULL;
	auto_free pid_t *pids = NULL;
	size_t count = 0;

	if (semaphores_users(saving->id, &pids, &count) < 0)
		return;
	own_pids = xalloc(count * sizeof(*own_pids));
	for (size_t i = 0; i < count; i++)
		own_pids[i] = sysv_own_pid(saving->users, pids[i]);
	const struct sysv_extra extra = {
		.changed_s = (uint64_t)saving->set->sem_ctime,
		.is_used = saving->set->sem_otime != 0,
		.pids = own_pids,
		.pid_count = count,
		.undos = saving->undos,
		.undo_count = saving->undo_count,
	};
	sysv_put_extra(SYSV_SEMAPHORES, saving->id, &extra, store);
}

static void put_set(const struct saving *saving, size_t values_bytes, struct image_store *store)
{
	IpcSemEntry entry = IPC_SEM_ENTRY__INIT;
	IpcDescEntry desc;

	sysv_describe(&saving->set->sem_perm, saving->id, &desc);
	entry.desc = &desc;
	entry.nsems = (uint32_t)saving->set->sem_nsems;
	image_put(store, IMAGE_IPC_SEM, IPC_NAMESPACE_ID, &entry.base);
	image_put_bytes(store, IMAGE_IPC_SEM, IPC_NAMESPACE_ID, saving->values, values_bytes);
}

struct error *semaphores_save(uint32_t id, const struct sysv_users *users, struct process *const *processes,
                              struct image_store *store)
{
	struct semid_ds set = {0};
	int r = count_of(id, &set);

	if (r < 0)
		return error_new(-r, "semctl(%u)", id);
	size_t size_bytes = sysv_padded(set.sem_nsems * sizeof(unsigned short));
	auto_free unsigned short *values = xalloc(size_bytes);
	__attribute__((cleanup(saving_free))) struct saving saving = {
		.id = id,
		.set = &set,
		.values = values,
		.users = users,
	};
	if (semctl((int)id, 0, GETALL, (union semun){.values = values}) < 0)
		return error_new(errno, "values of System V semaphores %u", id);
	for (size_t i = 0; processes && i < users->count; i++)
		if (processes[i])
			TRY(read_undo(&saving, processes[i]), "process %d", processes[i]->pid);
	put_set(&saving, size_bytes, store);
	put_extra(&saving, store);
	return NULL;
}

/* ---- Making ---- */

struct making {
	const IpcSemEntry *entry;
	const GodwitSysvEntry *extra;
	const unsigned short *values;
	const struct sysv_makers *makers;
};

static uint32_t user_of(const struct making *making, size_t i)
{
	return i < making->extra->n_pids ? making->extra->pids[i] : 0;
}

/* Two operations at once that change nothing but sem_otime, and who has used it last. */
static struct error *use(const struct making *making, size_t semaphore)
{
	int way = making->values[semaphore] ? -1 : 1;
	const struct sembuf operations[] = {
		{.sem_num = (unsigned short)semaphore, .sem_op = (short)way},
		{.sem_num = (unsigned short)semaphore, .sem_op = (short)-way},
	};
	struct process *task = making->makers->find(making->makers, user_of(making, semaphore));
	auto_batch struct batch *batch = process_batch(task, 0);

	batch_about(batch, "System V semaphores", making->entry->desc->id);
	batch_call(batch, semop, val(making->entry->desc->id), batch_bytes(batch, operations, sizeof(operations)),
	           val(sizeof(operations) / sizeof(operations[0])));
	return process_run(task, batch);
}

/* Of which anybody was the last user; else the first one. */
static size_t first_used(const struct making *making)
{
	for (size_t i = 0; i < making->entry->nsems; i++)
		if (user_of(making, i))
			return i;
	return 0;
}

/* Behind the values: setting those takes what is to be undone away (semctl(2), SETVAL). */
static struct error *set_undo(const struct making *making, const GodwitSysvUndo *undo)
{
	struct process *task = making->makers->find(making->makers, undo->pid);

	for (size_t i = 0; i < undo->n_numbers && i < making->entry->nsems; i++) {
		if (!undo->numbers[i])
			continue;
		TRY(undo_set(task, making->entry->desc->id, i, making->values[i], undo->numbers[i]));
		TRY(use(making, i));
	}
	return NULL;
}

/* Those from first on whose last user is the same one, as far as they fit in; *ret_next is what comes then. */
static struct error *set_some(const struct making *making, size_t first, size_t *ret_next)
{
	uint32_t user = user_of(making, first);
	struct process *task = making->makers->find(making->makers, user);
	auto_batch struct batch *batch = process_batch(task, 0);
	size_t i = first;

	batch_about(batch, "System V semaphores", making->entry->desc->id);
	for (; i < making->entry->nsems && user_of(making, i) == user && batch_room(batch) > ROOM; i++)
		if (user || making->values[i])
			batch_call(batch, semctl, val(making->entry->desc->id), val(i), val(SETVAL),
			           val(making->values[i]));
	*ret_next = i;
	return process_run(task, batch);
}

static struct error *set_all(const struct making *making)
{
	for (size_t i = 0; i < making->entry->nsems;)
		TRY(set_some(making, i, &i));
	if (making->extra->is_used && making->entry->nsems > 0)
		TRY(use(making, first_used(making)));
	for (size_t i = 0; i < making->extra->n_undos; i++)
		TRY(set_undo(making, making->extra->undos[i]));
	return sysv_set_owner(SYSV_SEMAPHORES, making->entry->desc);
}

struct error *semaphores_make(const IpcSemEntry *entry, size_t index, const struct image_store *store,
                              const struct sysv_makers *makers)
{
	struct making making = {.entry = entry, .makers = makers};
	GodwitSysvEntry *extra;
	size_t size_bytes;
	const uint8_t *bytes;

	image_get_bytes(store, IMAGE_IPC_SEM, IPC_NAMESPACE_ID, index, &bytes, &size_bytes);
	if (size_bytes < entry->nsems * sizeof(unsigned short))
		return error_new(EBADMSG, "System V semaphores %u without their values", entry->desc->id);
	auto_free unsigned short *values = xalloc(size_bytes + 1);
	memcpy(values, bytes, size_bytes);
	making.values = values;
	const struct arg arguments[3] = {val(entry->desc->key), val(entry->nsems), val(sysv_flags(entry->desc))};
	TRY(sysv_create(makers->find(makers, 0), SYSV_SEMAPHORES, entry->desc, arguments));
	TRY(sysv_get_extra(store, SYSV_SEMAPHORES, entry->desc->id, &extra));
	making.extra = extra;
	struct error *error = set_all(&making);
	godwit_sysv_entry__free_unpacked(extra, NULL);
	return error;
}
