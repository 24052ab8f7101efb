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

/* Objects of the program by inode and device: the address where it has them. A NULL map: none. */
static struct number_map *list_objects(const struct areas *areas)
{
	struct number_map *objects = NULL;

	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		if (area_content(area) != AREA_CONTENT_SHARED)
			continue;
		if (!objects)
			objects = number_map_new();
		number_map_add(objects, area->inode, area->device, area->entry.start);
	}
	return objects;
}

static struct error *outsider_error(const struct areas *areas, uint64_t address, pid_t other)
{
	auto_free char *comm = NULL;
	const char *name = areas_find(areas, address)->path;

	if (procfs_read(other, "comm", &comm, NULL) < 0)
		comm = xformat("?");
	comm[strcspn(comm, "\n")] = '\0';
	return error_hint(error_new(ENOTSUP, "shared memory at %#" PRIx64 " (%s) is mapped by process %d (%s), too",
	                            address, name ? name : "", other, comm),
	                  "process trees can't be carried yet: end the other process first");
}

static void look_at_line(const char *line, pid_t other, struct number_map *objects, const struct areas *areas,
                         struct problems *problems)
{
	uint64_t address;
	struct area area;

	if (maps_parse_line(line, &area) < 0)
		return;
	/* Each object is told once. */
	if (number_map_remove(objects, area.inode, area.device, &address))
		problems_add(problems, outsider_error(areas, address, other));
	free(area.path);
}

static void look_at_process(pid_t other, struct number_map *objects, const struct areas *areas,
                            struct problems *problems)
{
	auto_free char *maps = NULL;
	char *rest = NULL;

	/* It may have ended; a kernel thread has none. */
	if (procfs_read(other, "maps", &maps, NULL) < 0)
		return;
	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		look_at_line(line, other, objects, areas, problems);
}

void shared_outsiders_check(pid_t pid, const struct areas *areas, struct problems *problems)
{
	auto_number_map struct number_map *objects = list_objects(areas);
	auto_free int *pids = NULL;
	size_t count = 0;

	if (!objects || procfs_numbers(getpid(), "..", &pids, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (pids[i] != pid && pids[i] != getpid())
			look_at_process(pids[i], objects, areas, problems);
}
