/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/save/shared_outsiders.h"
#include "memory/maps.h"
#include "util/alloc.h"
#include "util/number_map.h"
#include "util/procfs.h"

void shared_outsiders_add(const struct areas *areas, struct number_map **objects)
{
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		if (area_content(area) != AREA_CONTENT_SHARED)
			continue;
		if (!*objects)
			*objects = number_map_new();
		number_map_add(*objects, area->inode, area->device, (uint64_t)(uintptr_t)area);
	}
}

static struct error *outsider_error(const struct area *area, pid_t other)
{
	auto_free char *process = open_files_process_text(other);

	return error_hint(error_new(ENOTSUP, "shared memory at %#" PRIx64 " (%s) is mapped by process %s, too",
	                            area->entry.start, area->path ? area->path : "", process),
	                  "that process stays here: end it first, or have a process carried that both descend from");
}

static void look_at_line(const char *line, pid_t other, struct number_map *objects, struct problems *problems)
{
	uint64_t found;
	struct area area;

	if (maps_parse_line(line, &area) < 0)
		return;
	/* Each object is told once. */
	if (number_map_remove(objects, area.inode, area.device, &found))
		problems_add(problems, outsider_error((const struct area *)(uintptr_t)found, other));
	free(area.path);
}

static void look_at_process(pid_t other, struct number_map *objects, struct problems *problems)
{
	auto_free char *maps = NULL;
	char *rest = NULL;

	/* It may have ended; a kernel thread has none. */
	if (procfs_read(other, "maps", &maps, NULL) < 0)
		return;
	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		look_at_line(line, other, objects, problems);
}

static bool is_one_of(pid_t pid, const struct open_task *tasks, size_t task_count)
{
	for (size_t i = 0; i < task_count; i++)
		if (tasks[i].pid == pid)
			return true;
	return false;
}

void shared_outsiders_check(struct number_map *objects, const struct open_task *tasks, size_t task_count,
                            struct problems *problems)
{
	auto_free int *pids = NULL;
	size_t count = 0;

	if (!objects || procfs_numbers(getpid(), "..", &pids, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (pids[i] != getpid() && !is_one_of(pids[i], tasks, task_count))
			look_at_process(pids[i], objects, problems);
}
