/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The areas (VMAs) of a process: reading them from a running or frozen one, comparing two states of them.
 *
 * An area is told in the image's own terms, a vma_entry, beside what /proc says that the image has no field for. What
 * those terms mean here:
 *
 *     flags    MAP_SHARED or MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE, MAP_LOCKED (with MAP_NONBLOCK:
 *              locked on fault, mlock2(2)), MAP_HUGETLB with the size of its pages in bits 26 to 31 (mmap(2))
 *     madv     bit N: MADV_ number N is in force
 *     status   enum area_status
 *
 * A guard region (MADV_GUARD_INSTALL, Linux 6.13) is told as an area of its own, with AREA_GUARD, between what is left
 * of the area around it: so it needs no field, and readers that don't know the bit lose the guard and no more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memory/area_trouble.h"
#include "util/attributes.h"
#include "util/procfs.h"
#include "util/ranges.h"
#include "vma.pb-c.h"

struct error;
struct numa_policy;
struct problems;

/* Bits of vma_entry.status: what crit shows as VMA_AREA_*, VMA_FILE_* and VMA_ANON_*. */
enum area_status {
	AREA_REGULAR = 1 << 0, /* the program's own: not vsyscall */
	AREA_STACK = 1 << 1,
	AREA_VSYSCALL = 1 << 2,
	AREA_VDSO = 1 << 3,
	AREA_HEAP = 1 << 5, /* brk(2) */
	AREA_FILE_PRIVATE = 1 << 6,
	AREA_FILE_SHARED = 1 << 7,
	AREA_ANON_SHARED = 1 << 8,
	AREA_ANON_PRIVATE = 1 << 9,
	AREA_SYSV = 1 << 10, /* shmat(2) */
	AREA_VVAR = 1 << 12,
	AREA_AIO_RING = 1 << 13, /* io_setup(2) */
	AREA_MEMFD = 1 << 14,    /* memfd_create(2) */
	AREA_GUARD = 1 << 16,    /* ours */
};

/* What the image has no field for. */
enum area_extra {
	AREA_SEALED = 1 << 0,    /* mseal(2) */
	AREA_DROPPABLE = 1 << 1, /* MAP_DROPPABLE of mmap(2) */
	AREA_POLICY = 1 << 2,    /* there may be a NUMA policy: mbind(2) */
};

struct area {
	VmaEntry entry;  /* shmid is left 0 */
	uint64_t device; /* as in maps, not always st_dev of stat(2) (btrfs), and st_ino of the mapped file; 0: none */
	uint64_t inode;
	uint64_t vma_start; /* the kernel's area that this is (a part of): its name in /proc/PID/map_files */
	uint64_t vma_end;
	char *path;                 /* owned: as in maps, without " (deleted)"; NULL: without a name */
	bool is_deleted;            /* the mapped file has no name any more */
	bool may_write;             /* the file is open for writing (VM_MAYWRITE), whatever prot says */
	bool is_shared_memory;      /* MAP_SHARED|MAP_ANONYMOUS, or a shared mapping of a memfd */
	uint32_t extra;             /* enum area_extra */
	enum area_trouble trouble;  /* why it can't be carried */
	struct numa_policy *policy; /* owned; of policies_ask(); NULL: none of its own, or nobody has asked */
};

struct areas {
	struct area *list; /* owned; ascending */
	size_t count;
};

/*
 * Reads smaps: that costs 5 to 7 ms per GB, so areas_refresh() is for the freeze.
 */
MUST_USE struct error *areas_read(pid_t pid, struct areas *ret_areas);

/* Adds those that can't be carried: device memory, rings of AIO, io_uring and packet sockets, shadow stacks, System V
 * shared memory, uprobes. */
void areas_check(const struct areas *areas, struct problems *problems);

/*
 * As areas_read(), but from one read of maps; attributes (locked, advice …) of an area that overlaps a like one in
 * known are taken from that. So an advice given since known was read is missed if it is for a whole area. Where there
 * is an area of another kind, smaps is read up to the last one. Runs frozen.
 *
 * What lies in one of the ranges hidden isn't told: the stub's pages. Areas that can't be carried are an error here.
 */
MUST_USE struct error *areas_refresh(pid_t pid, const struct areas *known, const struct procfs_range *hidden,
                                     size_t hidden_count, struct areas *ret_areas);

/* The area that has address in it, or NULL. */
const struct area *areas_find(const struct areas *areas, uint64_t address);

/*
 * What mlockall(2) has said about areas that will come: MCL_FUTURE and MCL_ONFAULT, or 0. It shows only in an area that
 * came since: ours, which hidden tells; locked_bytes is VmLck of proc_pid_status(5).
 */
MUST_USE struct error *areas_lock_future(pid_t pid, const struct areas *areas, const struct procfs_range *hidden,
                                         uint64_t locked_bytes, uint32_t *ret_flags);

void areas_free(struct areas *areas); /* what it points to, not itself; leaves it empty */
#define auto_areas __attribute__((cleanup(areas_free)))

/* What has to be carried of an area beside the area itself. */
enum area_content {
	AREA_CONTENT_NONE,         /* a shared file, a guard, what belongs to the kernel */
	AREA_CONTENT_ANONYMOUS,    /* pages that are there */
	AREA_CONTENT_PRIVATE_FILE, /* pages that were written and so are not the file's any more */
	AREA_CONTENT_SHARED,       /* what the shared memory behind it holds */
	AREA_CONTENT_VDSO,         /* all pages: code of another kernel can only be read from there */
};
enum area_content area_content(const struct area *area);

/* A memfd, whether the mapping is private or shared. */
bool area_maps_memfd(const struct area *area);

/*
 * What was mapped and is not any more, or is mapped otherwise: everything of before that no area of now, which is like
 * it, covers. The caller frees it.
 */
struct ranges areas_gone(const struct areas *before, const struct areas *now);

/* Do two areas map the same file, or the same shared memory, or nothing, in the same way? */
bool area_is_like(const struct area *area, const struct area *other);
