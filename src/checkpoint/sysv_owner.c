/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/sysv_owner.h"
#include "objects/sysv/queues.h"
#include "objects/sysv/semaphores.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* A PID that was another's when that used the object: then the process is younger than its last use. */
static bool is_younger(pid_t pid, uint64_t used_s)
{
	struct timespec since_boot;
	struct timespec now;
	uint64_t start_ticks;

	if (procfs_start_time(pid, &start_ticks) < 0)
		return true;
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age_s = since_boot.tv_sec - (int64_t)(start_ticks / (uint64_t)sysconf(_SC_CLK_TCK));
	/* Either may be cut off, in the wrong direction. */
	return now.tv_sec - age_s > (int64_t)used_s + 2;
}

static bool is_alive(pid_t pid)
{
	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM) && !procfs_is_dead(pid);
}

/* False: nobody's. */
static bool judge(const struct sysv_users *users, const pid_t *pids, size_t count, uint64_t used_s,
                  struct sysv_owned *ret_owned)
{
	bool is_own = false;

	for (size_t i = 0; i < count; i++) {
		if (sysv_own_pid(users, pids[i]))
			is_own = is_own || !is_younger(pids[i], used_s);
		else if (is_alive(pids[i]) && !is_younger(pids[i], used_s))
			ret_owned->stranger = pids[i];
	}
	ret_owned->owner = ret_owned->stranger ? SYSV_SHARED : SYSV_OWN;
	return is_own;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool judge_set(const struct sysv_users *users, struct sysv_owned *owned)
{
	struct sysv_look there;
	auto_free pid_t *pids = NULL;
	size_t count = 0;

	return sysv_look(owned->kind, owned->id, &there) == 0 && semaphores_users(owned->id, &pids, &count) == 0 &&
	       judge(users, pids, count, later(there.changed_s, there.used_s), owned);
}

static bool judge_queue(const struct sysv_users *users, struct sysv_owned *owned)
{
	struct sysv_look there;
	pid_t pids[2];

	return sysv_look(owned->kind, owned->id, &there) == 0 && queue_users(owned->id, pids) == 0 &&
	       judge(users, pids, 2, there.used_s, owned);
}

static void find_kind(enum sysv_kind kind, const struct sysv_users *users,
                      bool (*judge_one)(const struct sysv_users *users, struct sysv_owned *owned),
                      struct sysv_found *found)
{
	auto_free int *ids = NULL;
	size_t count;

	sysv_list(kind, &ids, &count);
	for (size_t i = 0; i < count; i++) {
		struct sysv_owned owned = {.kind = kind, .id = (uint32_t)ids[i]};

		if (!judge_one(users, &owned))
			continue;
		found->list = xrealloc(found->list, (found->count + 1) * sizeof(owned));
		found->list[found->count++] = owned;
	}
}

void sysv_find(const struct sysv_users *users, struct sysv_found *ret_found)
{
	*ret_found = (struct sysv_found){0};
	find_kind(SYSV_SEMAPHORES, users, judge_set, ret_found);
	find_kind(SYSV_QUEUE, users, judge_queue, ret_found);
}

bool sysv_find_unattached(const struct sysv_users *users, uint64_t min_age_s, uint32_t *ret_id, pid_t *ret_creator)
{
	auto_free int *ids = NULL;
	size_t count;

	sysv_list(SYSV_SEGMENT, &ids, &count);
	for (size_t i = 0; i < count; i++) {
		struct sysv_look there;

		if (sysv_look(SYSV_SEGMENT, (uint32_t)ids[i], &there) < 0 || there.attached_count > 0 ||
		    !sysv_own_pid(users, there.creator) || is_younger(there.creator, there.changed_s) ||
		    (uint64_t)time(NULL) < there.changed_s + min_age_s)
			continue;
		*ret_id = (uint32_t)ids[i];
		*ret_creator = there.creator;
		return true;
	}
	return false;
}

const struct sysv_owned *sysv_found_at(const struct sysv_found *found, enum sysv_kind kind, uint32_t id)
{
	for (size_t i = 0; i < found->count; i++)
		if (found->list[i].kind == kind && found->list[i].id == id)
			return &found->list[i];
	return NULL;
}

void sysv_found_free(struct sysv_found *found)
{
	free(found->list);
	*found = (struct sysv_found){0};
}
