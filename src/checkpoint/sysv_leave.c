/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>

#include "checkpoint/sysv_leave.h"
#include "checkpoint/sysv_owner.h"
#include "memory/maps.h"
#include "objects/sysv/sysv.h"
#include "util/alloc.h"
#include "util/descendants.h"
#include "util/number_map.h"
#include "util/procfs.h"

/* How many areas of it there are, by id. */
struct segments {
	struct number_map *counts; /* owned */
	uint32_t *ids;             /* owned */
	size_t count;
};

static void segments_free(struct segments *segments)
{
	number_map_free(segments->counts);
	free(segments->ids);
}

static void add(struct segments *segments, uint64_t id)
{
	uint64_t count = 0;

	if (!number_map_remove(segments->counts, id, 0, &count)) {
		segments->ids = xrealloc(segments->ids, (segments->count + 1) * sizeof(*segments->ids));
		segments->ids[segments->count++] = (uint32_t)id;
	}
	number_map_add(segments->counts, id, 0, count + 1);
}

static void look_at_process(pid_t pid, struct segments *segments)
{
	auto_free char *maps = NULL;
	char *rest = NULL;

	if (procfs_read(pid, "maps", &maps, NULL) < 0)
		return;
	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		struct area area;

		if (!strstr(line, "/SYSV") || maps_parse_line(line, &area) < 0)
			continue;
		if (area.path && strncmp(area.path, "/SYSV", strlen("/SYSV")) == 0)
			add(segments, area.inode);
		free(area.path);
	}
}

static void remove_segments(const struct descendants *all)
{
	__attribute__((cleanup(segments_free))) struct segments segments = {.counts = number_map_new()};

	for (size_t i = 0; i < all->count; i++)
		look_at_process(all->list[i].pid, &segments);
	for (size_t i = 0; i < segments.count; i++) {
		struct sysv_look there;
		uint64_t count = 0;

		number_map_find(segments.counts, segments.ids[i], 0, &count);
		if (sysv_look(SYSV_SEGMENT, segments.ids[i], &there) == 0 && there.attached_count <= count &&
		    !(there.perm.mode & SHM_DEST))
			error_free(sysv_remove(SYSV_SEGMENT, segments.ids[i]));
	}
}

static void remove_others(const struct descendants *all)
{
	auto_free struct open_task *tasks = xalloc((all->count + 1) * sizeof(*tasks));
	const struct sysv_users users = {.tasks = tasks, .count = all->count};
	auto_sysv_found struct sysv_found found = {0};

	for (size_t i = 0; i < all->count; i++)
		tasks[i] = (struct open_task){.pid = all->list[i].pid, .own_pid = all->list[i].pid, .pidfd = -1};
	sysv_find(&users, &found);
	for (size_t i = 0; i < found.count; i++)
		if (found.list[i].owner == SYSV_OWN)
			error_free(sysv_remove(found.list[i].kind, found.list[i].id));
}

void sysv_leave(pid_t pid)
{
	auto_descendants struct descendants all = {0};

	descendants_list(pid, &all);
	remove_segments(&all);
	remove_others(&all);
}
