/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "task/cgroup_mounts.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"

/* Is there such a word in a list with commas? */
static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, word, length) == 0 && strchr(",", at[length]))
			return true;
	}
	return false;
}

/* Fields 3 to 5 of a line, and those behind its dash. */
static bool read_line(char *line, struct cgroup_hierarchy *ret_hierarchy)
{
	char *rest = NULL;
	char *type = strstr(line, " - cgroup");
	struct cgroup_hierarchy hierarchy = {0};
	const char *words[5];

	if (!type)
		return false;
	*type = '\0';
	type += strlen(" - ");
	for (size_t i = 0; i < 5; i++) {
		words[i] = strtok_r(i == 0 ? line : NULL, " ", &rest);
		if (!words[i])
			return false;
	}
	hierarchy.device = words[2];
	hierarchy.root = words[3];
	hierarchy.top = words[4];
	hierarchy.is_unified = strncmp(type, "cgroup2 ", 8) == 0;
	hierarchy.options = strrchr(type, ' ') + 1;
	*ret_hierarchy = hierarchy;
	return true;
}

/* Seen already, or under another mount? */
static bool is_usable(const struct cgroup_mounts *mounts, const struct cgroup_hierarchy *hierarchy)
{
	auto_free char *members = xformat("%s/cgroup.procs", hierarchy->top);

	for (size_t i = 0; i < mounts->count; i++)
		if (strcmp(mounts->list[i].device, hierarchy->device) == 0)
			return false;
	return access(members, F_OK) == 0;
}

/* Whose line "NUMBER:CONTROLLERS:PATH" this is; the path, or NULL. Only version 2 has no controllers: cgroups(7). */
static const char *path_in(const char *line, const struct cgroup_hierarchy *hierarchy)
{
	const char *controllers = strchr(line, ':');
	const char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return NULL;
	size_t length = strcspn(controllers + 1, ",:");
	auto_free char *first = xformat("%.*s", (int)length, controllers + 1);
	bool is_it =
		length == 0 ? hierarchy->is_unified : !hierarchy->is_unified && has_word(hierarchy->options, first);
	return is_it ? path + 1 : NULL;
}

/* Where this process is in each of them. */
static void find_own(struct cgroup_mounts *mounts)
{
	char *rest = NULL;

	if (procfs_read(getpid(), "cgroup", &mounts->cgroups, NULL) < 0)
		return;
	for (char *line = strtok_r(mounts->cgroups, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		for (size_t i = 0; i < mounts->count; i++) {
			struct cgroup_hierarchy *hierarchy = &mounts->list[i];
			const char *path = path_in(line, hierarchy);

			hierarchy->own = path ? path : hierarchy->own;
			hierarchy->is_left = hierarchy->own && strcmp(hierarchy->own, hierarchy->root) == 0;
		}
}

const char *cgroup_path(const struct cgroup_hierarchy *hierarchy, const char *cgroups)
{
	for (const char *line = cgroups; *line;) {
		const char *end = strchrnul(line, '\n');
		const char *path = path_in(line, hierarchy);

		if (path && path < end)
			return path;
		line = *end ? end + 1 : end;
	}
	return NULL;
}

void cgroup_mounts_read(struct cgroup_mounts *mounts)
{
	char *rest = NULL;

	*mounts = (struct cgroup_mounts){0};
	if (procfs_read(getpid(), "mountinfo", &mounts->mountinfo, NULL) < 0)
		return;
	for (char *line = strtok_r(mounts->mountinfo, "\n", &rest); line && mounts->count < CGROUP_HIERARCHIES_MAX;
	     line = strtok_r(NULL, "\n", &rest)) {
		struct cgroup_hierarchy hierarchy;

		if (read_line(line, &hierarchy) && is_usable(mounts, &hierarchy))
			mounts->list[mounts->count++] = hierarchy;
	}
	find_own(mounts);
}

void cgroup_mounts_free(struct cgroup_mounts *mounts)
{
	free(mounts->mountinfo);
	free(mounts->cgroups);
}

bool cgroup_has(const struct cgroup_hierarchy *hierarchy, const char *option)
{
	return has_word(hierarchy->options, option);
}
