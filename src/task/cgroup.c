/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "task/cgroup.h"
#include "task/cgroup_mounts.h"
#include "task/scope.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

#define PREFIX "godwit-"

enum {
	TRIES = 5,     /* another godwit may remove our group while it is empty */
	DEAD_MS = 100, /* that an ended process may still count as a member */
};

struct cgroup_home {
	pid_t pid;       /* from cgroup_home_enter() on */
	pid_t companion; /* 0: none */
	char name[32];
	struct cgroup_mounts hierarchies;     /* owned */
	char *groups[CGROUP_HIERARCHIES_MAX]; /* owned: folders, of those hierarchies that have one */
	int group_fd;                         /* owned: that of version 2; -1: none */
	int doors[CGROUP_HIERARCHIES_MAX];    /* owned */
	size_t door_count;
	bool wants_scope; /* systemd is asked first */
	char *scope;      /* owned: its name; NULL: it is in none */
	char *no_scope;   /* owned: why systemd didn't make one */
	size_t count;     /* of those that it is in */
	char *refused;    /* owned: where it stays, and why; NULL: nowhere */
};

/* ---- Groups ---- */

/* 0 or a negative errno. */
static int move(const char *group, pid_t pid)
{
	auto_free char *path = xformat("%s/cgroup.procs", group);
	auto_free char *text = xformat("%d", pid);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? negative_errno() : 0;
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

/* ---- The home of a process ---- */

/* A group of version 1 that has these holds no real-time thread, or none at all, until somebody gives it a share. */
static bool is_for_top(const struct cgroup_hierarchy *hierarchy)
{
	return cgroup_has(hierarchy, "cpu") || cgroup_has(hierarchy, "cpuset");
}

/* 0 or a negative errno. */
static int make_group(struct cgroup_home *home, size_t i)
{
	auto_free char *group = xformat("%s/%s", home->hierarchies.list[i].top, home->name);

	if (mkdir(group, 0755) < 0 && errno != EEXIST)
		return negative_errno();
	if (!home->groups[i])
		home->groups[i] = take(group);
	return 0;
}

/* Of version 1, the top. */
static bool belongs_to_top(const struct cgroup_hierarchy *hierarchy)
{
	return !hierarchy->is_unified && (hierarchy->is_left || is_for_top(hierarchy));
}

/* What fails is tried again, and told, when the process is there. */
static void open_door(struct cgroup_home *home, size_t i)
{
	const struct cgroup_hierarchy *hierarchy = &home->hierarchies.list[i];
	bool is_top = belongs_to_top(hierarchy);

	if (hierarchy->is_left || (!is_top && make_group(home, i) < 0))
		return;
	auto_free char *path = xformat("%s/tasks", is_top ? hierarchy->top : home->groups[i]);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		home->doors[home->door_count++] = fd;
}

struct cgroup_home *cgroup_home_new(pid_t pid)
{
	struct cgroup_home *home = xalloc(sizeof(*home));
	uint64_t random = 0;

	/* Programs of several PID namespaces have the same PID. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = clock_now_ns();
	home->group_fd = -1;
	snprintf(home->name, sizeof(home->name), PREFIX "%d-%08" PRIx32, pid, (uint32_t)random);
	home->wants_scope = scope_can_be();
	cgroup_mounts_read(&home->hierarchies);
	for (size_t i = 0; i < home->hierarchies.count; i++) {
		const struct cgroup_hierarchy *hierarchy = &home->hierarchies.list[i];

		remove_empty(hierarchy->top);
		if (home->wants_scope)
			continue;
		if (!hierarchy->is_unified)
			open_door(home, i);
		else if (make_group(home, i) == 0)
			home->group_fd = open(home->groups[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return home;
}

int cgroup_home_fd(const struct cgroup_home *home)
{
	return home ? home->group_fd : -1;
}

size_t cgroup_home_doors(const struct cgroup_home *home, const int **ret_doors)
{
	*ret_doors = home ? home->doors : NULL;
	return home ? home->door_count : 0;
}

/* Was it born there, or has it gone there by itself? cgroups: proc_pid_cgroup(5). */
static bool is_there(const struct cgroup_home *home, const struct cgroup_hierarchy *hierarchy, bool is_top,
                     const char *cgroups)
{
	const char *path = cgroup_path(hierarchy, cgroups);
	size_t length = path ? strcspn(path, "\n") : 0;
	size_t name_length = strlen(home->name);

	if (!path)
		return false;
	if (is_top)
		return length == strlen(hierarchy->root) && memcmp(path, hierarchy->root, length) == 0;
	return length > name_length && path[length - name_length - 1] == '/' &&
	       memcmp(path + length - name_length, home->name, name_length) == 0;
}

static void add_refusal(struct cgroup_home *home, const struct cgroup_hierarchy *hierarchy, int errnum)
{
	auto_free char *before = take(home->refused);

	home->refused = xformat("%s%s%s (%s)", before ? before : "", before ? ", " : "", hierarchy->top,
	                        strerrordesc_np(errnum));
}

/* Made again where another godwit has found it empty meanwhile. 0 or a negative errno. */
static int move_to_own(struct cgroup_home *home, size_t i)
{
	int r = -ENOENT;

	for (int tries = 0; tries < TRIES && (r == -ENOENT || r == -ENODEV); tries++) {
		r = make_group(home, i);
		if (r == 0)
			r = move(home->groups[i], home->pid);
	}
	return r;
}

/* One that can't be moved, though the program could: nothing to be done about it. */
static void take_companion(const struct cgroup_home *home, size_t i, bool is_top)
{
	if (home->companion)
		(void)move(is_top ? home->hierarchies.list[i].top : home->groups[i], home->companion);
}

/* All of our own making. */
static void enter_groups(struct cgroup_home *home)
{
	auto_free char *cgroups = NULL;
	bool is_known = procfs_read(home->pid, "cgroup", &cgroups, NULL) == 0;

	for (size_t i = 0; i < home->hierarchies.count; i++) {
		const struct cgroup_hierarchy *hierarchy = &home->hierarchies.list[i];
		bool is_top = belongs_to_top(hierarchy);
		int r = 0;

		if (!is_known || !is_there(home, hierarchy, is_top, cgroups))
			r = is_top ? move(hierarchy->top, home->pid) : move_to_own(home, i);
		if (r < 0)
			add_refusal(home, hierarchy, -r);
		else
			take_companion(home, i, is_top);
		home->count += r == 0 && !is_top;
	}
}

/* False, with the reason noted, where systemd doesn't make it. */
static bool enter_scope(struct cgroup_home *home)
{
	auto_free char *name = xformat("%s.scope", home->name);

	if (!home->wants_scope)
		return false;
	auto_error struct error *error = scope_make(home->pid, home->companion, name);
	if (error)
		home->no_scope = error_line(error);
	else
		home->scope = take(name);
	return !error;
}

void cgroup_home_enter(struct cgroup_home *home, pid_t pid, pid_t companion)
{
	home->pid = pid;
	home->companion = companion;
	if (!enter_scope(home))
		enter_groups(home);
}

char *cgroup_home_line(const struct cgroup_home *home)
{
	if (home->scope)
		return xformat("it is in the scope %s of systemd", home->scope);
	if (home->hierarchies.count == 0)
		return xformat("it stays in the control groups of godwit: none are mounted here");
	return xformat("it has control groups of its own (%s) in %zu hierarchies", home->name, home->count);
}

const char *cgroup_home_refused(const struct cgroup_home *home)
{
	return home->refused;
}

const char *cgroup_home_no_scope(const struct cgroup_home *home)
{
	return home->no_scope;
}

void cgroup_home_remove(const struct cgroup_home *home)
{
	if (!home)
		return;
	for (size_t i = 0; i < home->hierarchies.count; i++)
		for (int waited_ms = 0;
		     home->groups[i] && waited_ms < DEAD_MS && rmdir(home->groups[i]) < 0 && errno == EBUSY;
		     waited_ms++)
			usleep(1000);
}

void cgroup_home_free(struct cgroup_home *home)
{
	if (!home)
		return;
	for (size_t i = 0; i < home->hierarchies.count; i++)
		free(home->groups[i]);
	cgroup_mounts_free(&home->hierarchies);
	if (home->group_fd >= 0)
		close(home->group_fd);
	for (size_t i = 0; i < home->door_count; i++)
		close(home->doors[i]);
	free(home->refused);
	free(home->scope);
	free(home->no_scope);
	free(home);
}

/* ---- This process ---- */

/* Where somebody ends groups as a whole. */
static bool is_ended_as_a_whole(const struct cgroup_hierarchy *hierarchy)
{
	return hierarchy->is_unified || cgroup_has(hierarchy, "name=systemd");
}

/* A grandchild, of which nobody has to take note, moves us: who waits for it would wait for the kernel. */
static void be_moved(const struct cgroup_mounts *hierarchies)
{
	pid_t own = getpid();
	pid_t child = fork();

	if (child == 0) {
		if (fork() == 0)
			for (size_t i = 0; i < hierarchies->count; i++)
				if (is_ended_as_a_whole(&hierarchies->list[i]) && !hierarchies->list[i].is_left)
					(void)move(hierarchies->list[i].top, own);
		_exit(0);
	}
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		continue;
}

void cgroup_leave(void)
{
	struct cgroup_mounts hierarchies;
	bool is_left = true;

	cgroup_mounts_read(&hierarchies);
	for (size_t i = 0; i < hierarchies.count; i++)
		is_left = is_left && (hierarchies.list[i].is_left || !is_ended_as_a_whole(&hierarchies.list[i]));
	if (!is_left)
		be_moved(&hierarchies);
	cgroup_mounts_free(&hierarchies);
}
