/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "task/cgroup.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

#define PREFIX "godwit-"

enum {
	HIERARCHIES_MAX = 32, /* there are about 15 controllers */
	NAMES_MAX = 8,        /* PID namespaces that have a program of the same PID in one hierarchy */
	TRIES = 5,            /* another godwit may remove our group while it is empty */
	DEAD_MS = 100,        /* that an ended process may still count as a member */
};

/* A mounted hierarchy; pieces of the text of mountinfo. */
struct hierarchy {
	const char *device; /* tells hierarchies apart that are mounted twice */
	const char *top;    /* a folder */
	const char *options;
	bool is_unified;
};

struct hierarchies {
	char *mountinfo; /* owned */
	struct hierarchy list[HIERARCHIES_MAX];
	size_t count;
};

struct cgroup_home {
	pid_t pid;
	char *groups[HIERARCHIES_MAX]; /* owned: folders */
	size_t count;
	char *refused; /* owned: where it stays, and why; NULL: nowhere */
};

/* ---- What is mounted: proc_pid_mountinfo(5) ---- */

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

/* Fields 3 and 5 of a line, and those behind its dash. */
static bool read_line(char *line, struct hierarchy *ret_hierarchy)
{
	char *rest = NULL;
	char *type = strstr(line, " - cgroup");
	struct hierarchy hierarchy = {0};
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
	hierarchy.top = words[4];
	hierarchy.is_unified = strncmp(type, "cgroup2 ", 8) == 0;
	hierarchy.options = strrchr(type, ' ') + 1;
	*ret_hierarchy = hierarchy;
	return true;
}

/* Seen already, or under another mount? */
static bool is_usable(const struct hierarchies *hierarchies, const struct hierarchy *hierarchy)
{
	auto_free char *members = xformat("%s/cgroup.procs", hierarchy->top);

	for (size_t i = 0; i < hierarchies->count; i++)
		if (strcmp(hierarchies->list[i].device, hierarchy->device) == 0)
			return false;
	return access(members, F_OK) == 0;
}

static void hierarchies_read(struct hierarchies *hierarchies)
{
	char *rest = NULL;

	*hierarchies = (struct hierarchies){0};
	if (procfs_read(getpid(), "mountinfo", &hierarchies->mountinfo, NULL) < 0)
		return;
	for (char *line = strtok_r(hierarchies->mountinfo, "\n", &rest); line && hierarchies->count < HIERARCHIES_MAX;
	     line = strtok_r(NULL, "\n", &rest)) {
		struct hierarchy hierarchy;

		if (read_line(line, &hierarchy) && is_usable(hierarchies, &hierarchy))
			hierarchies->list[hierarchies->count++] = hierarchy;
	}
}

/* ---- Groups ---- */

/* 0 or a negative errno. */
static int move(const char *group, pid_t pid)
{
	auto_free char *path = xformat("%s/cgroup.procs", group);
	auto_free char *text = xformat("%d", pid);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? negative_errno() : 0;
}

void cgroup_leave(void)
{
	struct hierarchies hierarchies;

	hierarchies_read(&hierarchies);
	for (size_t i = 0; i < hierarchies.count; i++) {
		const struct hierarchy *hierarchy = &hierarchies.list[i];

		if (hierarchy->is_unified || has_word(hierarchy->options, "name=systemd"))
			(void)move(hierarchy->top, 0);
	}
	free(hierarchies.mountinfo);
}

/* rmdir(2) removes only groups that nobody is in. */
static void remove_empty(const char *top)
{
	DIR *folder = opendir(top);

	if (!folder)
		return;
	for (const struct dirent *entry; (entry = readdir(folder));) /* NOLINT(concurrency-mt-unsafe): our own stream */
		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
		    isdigit((unsigned char)entry->d_name[strlen(PREFIX)]))
			unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
	closedir(folder);
}

/* A group that isn't there yet; the caller frees. NULL: none can be made, errno says why. */
static char *make_group(const char *top, pid_t pid)
{
	for (int i = 1; i <= NAMES_MAX; i++) {
		char *group =
			i == 1 ? xformat("%s/" PREFIX "%d", top, pid) : xformat("%s/" PREFIX "%d-%d", top, pid, i);

		if (mkdir(group, 0755) == 0)
			return group;
		int saved_errno = errno;
		free(group);
		errno = saved_errno;
		if (errno != EEXIST)
			break;
	}
	return NULL;
}

/* The caller frees the group. 0 or a negative errno. */
static int move_to_own(const char *top, pid_t pid, char **ret_group)
{
	int r = -ENOENT;

	for (int i = 0; i < TRIES && (r == -ENOENT || r == -ENODEV); i++) {
		auto_free char *group = make_group(top, pid);

		if (!group)
			return negative_errno();
		r = move(group, pid);
		if (r < 0)
			rmdir(group);
		else
			*ret_group = take(group);
	}
	return r;
}

/* ---- The home of a process ---- */

static void add_refusal(struct cgroup_home *home, const struct hierarchy *hierarchy, int errnum)
{
	auto_free char *before = take(home->refused);

	home->refused = xformat("%s%s%s (%s)", before ? before : "", before ? ", " : "", hierarchy->top,
	                        strerrordesc_np(errnum));
}

struct cgroup_home *cgroup_home_new(pid_t pid)
{
	struct cgroup_home *home = xalloc(sizeof(*home));
	struct hierarchies hierarchies;

	home->pid = pid;
	hierarchies_read(&hierarchies);
	for (size_t i = 0; i < hierarchies.count; i++) {
		const struct hierarchy *hierarchy = &hierarchies.list[i];
		bool is_top = has_word(hierarchy->options, "cpu") || has_word(hierarchy->options, "cpuset");

		remove_empty(hierarchy->top);
		int r = is_top ? move(hierarchy->top, pid)
		               : move_to_own(hierarchy->top, pid, &home->groups[home->count]);
		if (r < 0)
			add_refusal(home, hierarchy, -r);
		else if (!is_top)
			home->count++;
	}
	free(hierarchies.mountinfo);
	return home;
}

char *cgroup_home_line(const struct cgroup_home *home)
{
	if (home->count == 0 && !home->refused)
		return xformat("process %d stays in the control groups of godwit: none are mounted here", home->pid);
	return xformat("process %d has control groups of its own in %zu hierarchies%s%s", home->pid, home->count,
	               home->refused ? "; it stays in that of godwit in " : "", home->refused ? home->refused : "");
}

void cgroup_home_remove(const struct cgroup_home *home)
{
	if (!home)
		return;
	for (size_t i = 0; i < home->count; i++)
		for (int waited_ms = 0; waited_ms < DEAD_MS && rmdir(home->groups[i]) < 0 && errno == EBUSY;
		     waited_ms++)
			usleep(1000);
}

void cgroup_home_free(struct cgroup_home *home)
{
	if (!home)
		return;
	for (size_t i = 0; i < home->count; i++)
		free(home->groups[i]);
	free(home->refused);
	free(home);
}
