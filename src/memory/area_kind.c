/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "memory/area_kind.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/negative_errno.h"
#include "util/own.h"

struct error *area_kinds_new(pid_t pid, struct area_kinds *ret_kinds)
{
	auto_fd int fd = memfd_create("godwit", MFD_CLOEXEC);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return error_new(errno, "memfd_create");
	*ret_kinds = (struct area_kinds){.pid = pid, .shared_memory_device = stat.st_dev};
	return NULL;
}

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- Without a file: "[heap]" ---- */

struct special_name {
	const char *name;
	uint32_t status;
	enum area_trouble trouble;
};

static const struct special_name special_names[] = {
	{"[heap]", AREA_REGULAR | AREA_HEAP | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE},
	{"[stack]", AREA_REGULAR | AREA_STACK | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE},
	{"[vdso]", AREA_REGULAR | AREA_VDSO | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE},
	{"[vvar]", AREA_REGULAR | AREA_VVAR | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE},
	{"[vvar_vclock]", AREA_REGULAR | AREA_VVAR | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE}, /* 6.13 */
	{"[vsyscall]", AREA_VSYSCALL | AREA_ANON_PRIVATE, AREA_TROUBLE_NONE},
	{"[uprobes]", AREA_REGULAR | AREA_ANON_PRIVATE, AREA_TROUBLE_UPROBES},
};

static void complete_special(struct area *area)
{
	area->entry.flags |= MAP_ANONYMOUS;
	area->entry.status = AREA_REGULAR | AREA_ANON_PRIVATE;
	if (!area->path || begins_with(area->path, "[anon:")) /* PR_SET_VMA_ANON_NAME */
		return;
	for (size_t i = 0; i < sizeof(special_names) / sizeof(special_names[0]); i++) {
		if (strcmp(special_names[i].name, area->path) != 0)
			continue;
		area->entry.status = special_names[i].status;
		area->trouble = special_names[i].trouble; /* vvar is device memory, which we know how to carry */
		return;
	}
	area->trouble = AREA_TROUBLE_KERNEL;
}

/* ---- Shared memory: files of the kernel's own tmpfs, hugetlb ones too ---- */

static void complete_memfd(struct area *area)
{
	bool is_shared = area->entry.flags & MAP_SHARED;

	area->entry.status = AREA_REGULAR | AREA_MEMFD | (is_shared ? AREA_FILE_SHARED : AREA_FILE_PRIVATE);
	area->is_shared_memory = is_shared;
}

static void complete_anonymous(struct area *area)
{
	bool is_shared = area->entry.flags & MAP_SHARED;

	area->entry.status = AREA_REGULAR | (is_shared ? AREA_ANON_SHARED : AREA_ANON_PRIVATE);
	area->entry.flags |= MAP_ANONYMOUS;
	area->is_shared_memory = is_shared;
}

/* shmat(2) maps nothing privately; what else does has opened a link of /proc. */
static void complete_sysv(struct area *area)
{
	bool is_shared = area->entry.flags & MAP_SHARED;

	area->entry.status = AREA_REGULAR | (is_shared ? AREA_SYSV | AREA_ANON_SHARED : AREA_ANON_PRIVATE);
	area->entry.flags |= MAP_ANONYMOUS;
	area->is_shared_memory = is_shared;
	area->trouble = is_shared ? AREA_TROUBLE_NONE : AREA_TROUBLE_SHARED_UNKNOWN;
}

static void complete_shared_memory(struct area *area)
{
	bool is_shared = area->entry.flags & MAP_SHARED;

	if (begins_with(area->path, "/memfd:")) {
		complete_memfd(area);
	} else if (is_shared && (strcmp(area->path, "/dev/zero") == 0 || begins_with(area->path, "[anon_shmem:"))) {
		complete_anonymous(area);
	} else if (begins_with(area->path, "/SYSV")) {
		complete_sysv(area);
	} else {
		area->entry.status = AREA_REGULAR | (is_shared ? AREA_ANON_SHARED : AREA_ANON_PRIVATE);
		area->trouble = AREA_TROUBLE_SHARED_UNKNOWN;
	}
}

/* ---- Files ---- */

static int stat_mapped(const struct area_kinds *kinds, const struct area *area, struct stat *ret_stat)
{
	auto_free char *path =
		xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, kinds->pid, area->entry.start, area->entry.end);

	return stat(path, ret_stat) < 0 ? negative_errno() : 0;
}

/* A private mapping of /dev/zero is anonymous memory in all but the name: zero(4). */
static bool is_private_zero(const struct area_kinds *kinds, const struct area *area)
{
	struct stat stat;

	return area->entry.flags & MAP_PRIVATE && strcmp(area->path, "/dev/zero") == 0 &&
	       stat_mapped(kinds, area, &stat) == 0 && S_ISCHR(stat.st_mode) && stat.st_rdev == makedev(1, 5);
}

static const char deleted_suffix[] = " (deleted)";

/* The length of the path without " (deleted)"; that of all of it where it has no such end. */
static size_t length_without_suffix(const char *path)
{
	size_t length = strlen(path);
	size_t suffix = sizeof(deleted_suffix) - 1;

	return length > suffix && strcmp(path + length - suffix, deleted_suffix) == 0 ? length - suffix : length;
}

/* "x (deleted)" may be the name of a file. */
static bool exists_by_that_name(const struct area_kinds *kinds, const struct area *area)
{
	auto_free char *path = xformat("/proc/%d/root%s", kinds->pid, area->path);
	struct stat found;

	return stat(path, &found) == 0 && found.st_ino == area->inode;
}

/* A newline in a name is shown as \012, a backslash as itself: only the link tells them apart. */
static void read_link(const struct area_kinds *kinds, struct area *area)
{
	auto_free char *path =
		xformat("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, kinds->pid, area->entry.start, area->entry.end);
	char link[4096 + sizeof(deleted_suffix)];
	ssize_t length = readlink(path, link, sizeof(link) - 1);

	if (length <= 0)
		return;
	free(area->path);
	area->path = xformat("%.*s", (int)length, link);
}

static void complete_file(const struct area_kinds *kinds, struct area *area)
{
	if (strstr(area->path, "\\012"))
		read_link(kinds, area);

	size_t length = length_without_suffix(area->path);
	if (area->path[length] && !exists_by_that_name(kinds, area)) {
		area->path[length] = '\0';
		area->is_deleted = true;
	}
	if (is_private_zero(kinds, area)) {
		area->entry.status = AREA_REGULAR | AREA_ANON_PRIVATE;
		area->entry.flags |= MAP_ANONYMOUS;
		return;
	}
	area->entry.status = AREA_REGULAR | (area->entry.flags & MAP_SHARED ? AREA_FILE_SHARED : AREA_FILE_PRIVATE);
}

/* What else is mapped through a descriptor, and names that only the kernel gives. */
static const struct special_name special_files[] = {
	{"anon_inode:[io_uring]", 0, AREA_TROUBLE_IO_URING}, {"anon_inode:[perf_event]", 0, AREA_TROUBLE_PERF},
	{"anon_inode:", 0, AREA_TROUBLE_DESCRIPTOR},         {"socket:[", 0, AREA_TROUBLE_PACKET},
	{"/[aio]", AREA_AIO_RING, AREA_TROUBLE_AIO},         {"/secretmem", 0, AREA_TROUBLE_SECRET},
};

static bool complete_special_file(struct area *area)
{
	for (size_t i = 0; i < sizeof(special_files) / sizeof(special_files[0]); i++) {
		const struct special_name *special = &special_files[i];

		if (!begins_with(area->path, special->name))
			continue;
		/* Below "/" these names could be those of files; the kernel's are always deleted. */
		if (*special->name == '/' && strcmp(area->path + strlen(special->name), deleted_suffix) != 0)
			continue;
		area->entry.status = AREA_REGULAR | special->status | AREA_FILE_SHARED;
		area->trouble = special->trouble;
		return true;
	}
	return false;
}

/* Files of hugetlbfs that have no name are on mounts of the kernel's own, one for each size of page. */
static bool complete_hugetlb(struct area *area)
{
	if (!(area->entry.flags & MAP_HUGETLB) || area->path[length_without_suffix(area->path)] == '\0')
		return false;
	if (begins_with(area->path, "/anon_hugepage"))
		complete_anonymous(area);
	else if (begins_with(area->path, "/memfd:"))
		complete_memfd(area);
	else if (begins_with(area->path, "/SYSV"))
		complete_sysv(area);
	else
		return false;
	return true;
}

void area_kinds_complete(const struct area_kinds *kinds, struct area *area)
{
	VmaEntry *entry = &area->entry;

	if (!area->path || (area->inode == 0 && area->path[0] == '[')) {
		complete_special(area);
	} else if (area->device == kinds->shared_memory_device) {
		area->path[length_without_suffix(area->path)] = '\0';
		complete_shared_memory(area);
	} else if (complete_hugetlb(area)) {
		area->path[length_without_suffix(area->path)] = '\0';
	} else if (!complete_special_file(area)) {
		complete_file(kinds, area);
	}
	entry->has_fdflags = (entry->status & (AREA_FILE_PRIVATE | AREA_FILE_SHARED)) != 0;
	entry->has_fdflags |= (entry->status & AREA_SYSV) != 0;
	entry->fdflags = area->may_write && entry->status & (AREA_FILE_SHARED | AREA_SYSV) ? O_RDWR : O_RDONLY;
	if ((entry->flags & (MAP_LOCKED | MAP_NONBLOCK)) == MAP_NONBLOCK)
		entry->flags &= ~(uint32_t)MAP_NONBLOCK;
}
