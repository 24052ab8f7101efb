/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "checkpoint/save/save_sysv.h"
#include "checkpoint/sysv_owner.h"
#include "objects/sysv/queues.h"
#include "objects/sysv/segments.h"
#include "objects/sysv/semaphores.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { TRANSIENT_S = 2 /* that a segment may be unattached while it is being made, and so is nothing to tell of */ };

struct error *save_segments(const struct areas *areas, const struct sysv_users *users, struct image_store *store)
{
	const uint32_t sizes = (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;

	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];
		uint32_t flags = area->entry.flags;

		if (area->entry.status & AREA_SYSV)
			TRY(segment_save((uint32_t)area->inode, area->path,
			                 flags & MAP_HUGETLB ? SHM_HUGETLB | (flags & sizes) : 0, users, store),
			    "area %#" PRIx64, area->entry.start);
	}
	return NULL;
}

/* ---- What can't be carried ---- */

static struct error *stranger_error(const struct sysv_owned *owned)
{
	auto_free char *comm = NULL;
	auto_free char *removal = sysv_removal(owned->kind, owned->id);

	if (owned->stranger && procfs_read(owned->stranger, "comm", &comm, NULL) < 0)
		comm = xformat("?");
	struct error *error =
		owned->stranger ? error_new(ENOTSUP, "%s %u, which process %d (%.*s) uses, too", sysv_name(owned->kind),
	                                    owned->id, owned->stranger, (int)strcspn(comm, "\n"), comm)
				: error_new(ENOTSUP, "%s %u, which a process outside of it waits for",
	                                    sysv_name(owned->kind), owned->id);
	return error_hint(error, "end the other process first; if the object is of no use any more: %s", removal);
}

/* In the freeze it may be about to be attached, or to be removed: then the program goes on, and all begins anew. */
static struct error *check_unattached(const struct sysv_users *users, uint64_t min_age_s)
{
	uint32_t id;
	pid_t creator;

	if (!sysv_find_unattached(users, min_age_s, &id, &creator))
		return NULL;
	auto_free char *removal = sysv_removal(SYSV_SEGMENT, id);
	return error_hint(error_new(EAGAIN, "%s %u, which process %d has made and nobody has attached",
	                            sysv_name(SYSV_SEGMENT), id, creator),
	                  "if it is of no use any more: %s", removal);
}

static enum sysv_kind kind_of_call(long call)
{
	switch (call) {
	case SYS_semop:
	case SYS_semtimedop:
		return SYSV_SEMAPHORES;
	case SYS_msgrcv:
	case SYS_msgsnd:
		return SYSV_QUEUE;
	default:
		return SYSV_KIND_COUNT;
	}
}

/* Waits for what isn't carried. */
static struct error *check_call(const struct sysv_found *found, pid_t tid, enum sysv_kind kind, uint32_t id)
{
	if (sysv_found_at(found, kind, id))
		return NULL;
	auto_free char *removal = sysv_removal(kind, id);
	return error_hint(error_new(ENOTSUP, "thread %d waits for %s %u, which no process of it was the last to use",
	                            tid, sysv_name(kind), id),
	                  "it can be carried once one has used it");
}

/* ---- While it runs ---- */

/* What a thread waits in: proc_pid_syscall(5). False: in none of these calls. */
static bool read_call(pid_t pid, pid_t tid, enum sysv_kind *ret_kind, uint32_t *ret_id)
{
	auto_free char *name = xformat("task/%d/syscall", tid);
	auto_free char *text = NULL;
	char *end = NULL;

	if (procfs_read(pid, name, &text, NULL) < 0)
		return false;
	long call = strtol(text, &end, 10);
	*ret_kind = end == text ? SYSV_KIND_COUNT : kind_of_call(call);
	*ret_id = (uint32_t)strtoul(end, NULL, 16);
	return *ret_kind != SYSV_KIND_COUNT;
}

static void check_threads(const struct sysv_found *found, pid_t pid, struct problems *problems)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	if (procfs_numbers(pid, "task", &tids, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		enum sysv_kind kind;
		uint32_t id;

		if (read_call(pid, tids[i], &kind, &id))
			problems_add(problems, check_call(found, tids[i], kind, id));
	}
}

void save_sysv_check(const struct sysv_users *users, struct problems *problems)
{
	auto_sysv_found struct sysv_found found = {0};

	sysv_find(users, &found);
	for (size_t i = 0; i < users->count; i++)
		if (users->tasks[i].pidfd >= 0)
			check_threads(&found, users->tasks[i].pid, problems);
	for (size_t i = 0; i < found.count; i++)
		if (found.list[i].owner == SYSV_SHARED)
			problems_add(problems, stranger_error(&found.list[i]));
	problems_add(problems, check_unattached(users, TRANSIENT_S));
}

/* ---- In the freeze ---- */

struct error *save_sysv_check_calls(const struct sysv_users *users, const struct process *process)
{
	auto_sysv_found struct sysv_found found = {0};
	bool has_looked = false;

	for (size_t i = 0; i < process->thread_count; i++) {
		const struct thread *thread = &process->threads[i];
		enum sysv_kind kind = kind_of_call(thread->call.number);

		if (kind == SYSV_KIND_COUNT)
			continue;
		if (!has_looked)
			sysv_find(users, &found);
		has_looked = true;
		TRY(check_call(&found, thread->tid, kind, (uint32_t)arch_call_argument(&thread->registers, 0)));
	}
	return NULL;
}

struct error *save_semaphores_and_queues(const struct sysv_users *users, struct process *const *processes,
                                         struct image_store *store)
{
	auto_sysv_found struct sysv_found found = {0};
	uint64_t queue_image = IPC_NAMESPACE_ID;

	if (processes)
		TRY(check_unattached(users, 0));
	sysv_find(users, &found);
	for (size_t i = 0; i < found.count; i++) {
		struct sysv_owned *owned = &found.list[i];

		/* None of the tree's own waits now: a stop ends that. */
		if (processes && owned->kind == SYSV_SEMAPHORES && semaphores_waiters(owned->id) > 0)
			owned->owner = SYSV_SHARED;
		if (owned->owner == SYSV_SHARED)
			return stranger_error(owned);
		if (owned->kind == SYSV_SEMAPHORES)
			TRY(semaphores_save(owned->id, users, processes, store));
		else
			TRY(queue_save(owned->id, queue_image++, users, store));
	}
	return NULL;
}
