/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "task/cgroup_memory.h"
#include "task/cgroup_mounts.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"

/* The names of the files, and of the lines of memory.stat, in the two versions. */
struct names {
	const char *limit, *used;
	const char *cached[2];
};

static const struct names unified = {"memory.max", "memory.current", {"inactive_file", "active_file"}};
static const struct names version_1 = {
	"memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}};

/* False where there is no number: there is no such file, or it says "max". */
static bool read_number(const char *group, const char *name, uint64_t *ret_number)
{
	auto_free char *path = xformat("%s/%s", group, name);
	auto_free char *text = NULL;
	char *end;

	if (procfs_read_path(path, &text, NULL) < 0)
		return false;
	*ret_number = strtoull(text, &end, 10);
	return end != text;
}

/* Lines "NAME NUMBER". */
static uint64_t read_cached(const char *group, const struct names *names)
{
	auto_free char *path = xformat("%s/memory.stat", group);
	auto_free char *text = NULL;
	char *rest = NULL;
	uint64_t bytes = 0;

	if (procfs_read_path(path, &text, NULL) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		for (size_t i = 0; i < sizeof(names->cached) / sizeof(names->cached[0]); i++) {
			size_t length = strlen(names->cached[i]);

			if (strncmp(line, names->cached[i], length) == 0 && line[length] == ' ')
				bytes += strtoull(line + length, NULL, 10);
		}
	return bytes;
}

static void look_at(const char *group, const struct names *names, struct cgroup_memory *memory)
{
	uint64_t limit;
	uint64_t used;

	if (!read_number(group, names->limit, &limit) || !read_number(group, names->used, &used))
		return;
	uint64_t cached = read_cached(group, names);
	used = used > cached ? used - cached : 0;
	uint64_t left = limit > used ? limit - used : 0;
	if (memory->group && left >= memory->left_bytes)
		return;
	free(memory->group);
	*memory = (struct cgroup_memory){.left_bytes = left, .group = xformat("%s", group)};
}

/* A program gets a group right below the top, or it is at the top; where that isn't allowed, it stays where we are, and the
 * groups above count as well. */
static void look_at_all(const struct cgroup_hierarchy *hierarchy, struct cgroup_memory *memory)
{
	const struct names *names = hierarchy->is_unified ? &unified : &version_1;
	size_t root_length = strcmp(hierarchy->root, "/") == 0 ? 0 : strlen(hierarchy->root);
	bool stays = access(hierarchy->top, W_OK) < 0 && hierarchy->own && strlen(hierarchy->own) >= root_length;
	auto_free char *group = xformat("%s%s", hierarchy->top, stays ? hierarchy->own + root_length : "");
	size_t top_length = strlen(hierarchy->top);

	for (;;) {
		look_at(group, names, memory);
		char *last = strrchr(group, '/');
		if (!last || (size_t)(last - group) < top_length)
			return;
		*last = '\0';
	}
}

bool cgroup_memory_read(struct cgroup_memory *ret_memory)
{
	struct cgroup_memory memory = {0};
	struct cgroup_mounts mounts;

	cgroup_mounts_read(&mounts);
	for (size_t i = 0; i < mounts.count; i++)
		if (mounts.list[i].is_unified || cgroup_has(&mounts.list[i], "memory"))
			look_at_all(&mounts.list[i], &memory);
	cgroup_mounts_free(&mounts);
	*ret_memory = memory;
	return memory.group != NULL;
}
