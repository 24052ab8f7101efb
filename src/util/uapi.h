/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What we use of the kernel's interface and Debian 12's headers (Linux 6.1) do not have, each with the Linux version
 * that brought it. Under names of our own, so that newer headers may be included beside it.
 */
#pragma once

#include <linux/ioctl.h>
#include <stdint.h>

/* ---- userfaultfd(2): linux/userfaultfd.h ---- */

#define UAPI_UFFD_FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13) /* 6.4 */
#define UAPI_UFFD_FEATURE_WP_ASYNC (UINT64_C(1) << 15)       /* 6.7 */
#define UAPI_UFFD_FEATURE_MOVE (UINT64_C(1) << 16)           /* 6.8 */

/* ---- The PAGEMAP_SCAN ioctl of /proc/PID/pagemap, 6.7: linux/fs.h, admin-guide/mm/pagemap ---- */

/* Categories. */
#define UAPI_PAGE_IS_WPALLOWED (UINT64_C(1) << 0) /* the area is registered for asynchronous write-protection */
#define UAPI_PAGE_IS_WRITTEN (UINT64_C(1) << 1)   /* since it was write-protected */
#define UAPI_PAGE_IS_FILE (UINT64_C(1) << 2)
#define UAPI_PAGE_IS_PRESENT (UINT64_C(1) << 3)
#define UAPI_PAGE_IS_SWAPPED (UINT64_C(1) << 4)
#define UAPI_PAGE_IS_PFNZERO (UINT64_C(1) << 5)
#define UAPI_PAGE_IS_HUGE (UINT64_C(1) << 6)
#define UAPI_PAGE_IS_SOFT_DIRTY (UINT64_C(1) << 7) /* 6.7 */
#define UAPI_PAGE_IS_GUARD (UINT64_C(1) << 8)      /* 6.15 */

/* Flags. */
#define UAPI_PM_SCAN_WP_MATCHING (UINT64_C(1) << 0)
#define UAPI_PM_SCAN_CHECK_WPASYNC (UINT64_C(1) << 1)

struct uapi_page_region {
	uint64_t start, end, categories;
};

struct uapi_pm_scan_arg {
	uint64_t size; /* of this struct */
	uint64_t flags;
	uint64_t start, end;
	uint64_t walk_end; /* written by the kernel: how far it has come */
	uint64_t vec;      /* of struct uapi_page_region */
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define UAPI_PAGEMAP_SCAN _IOWR('f', 16, struct uapi_pm_scan_arg)

/* ---- The PROCMAP_QUERY ioctl of /proc/PID/maps, 6.11: linux/fs.h ---- */

struct uapi_procmap_query {
	uint64_t size; /* of this struct */
	uint64_t query_flags, query_address;
	uint64_t start, end, flags, page_size, offset, inode; /* out */
	uint32_t device_major, device_minor;                  /* out */
	uint32_t name_size, build_id_size;                    /* room; out: used */
	uint64_t name_address, build_id_address;
};

#define UAPI_PROCMAP_QUERY _IOWR('f', 17, struct uapi_procmap_query)

/* ---- madvise(2): asm-generic/mman-common.h ---- */

enum {
	UAPI_MADV_GUARD_INSTALL = 102, /* 6.13 */
	UAPI_MADV_GUARD_REMOVE = 103,
};

/* ---- Other calls that memory knows ---- */

enum {
	UAPI_MAP_DROPPABLE = 0x08,    /* mmap(2), 6.11 */
	UAPI_SYS_MSEAL = 462,         /* mseal(2), 6.10 */
	UAPI_PR_SET_VMA = 0x53564d41, /* prctl(2), 5.17 */
	UAPI_PR_SET_VMA_ANON_NAME = 0,
};

/* ---- memfd_create(2) and its seals: linux/memfd.h, linux/fcntl.h ---- */

enum {
	UAPI_MFD_NOEXEC_SEAL = 0x8, /* 6.3 */
	UAPI_MFD_EXEC = 0x10,
	UAPI_F_SEAL_EXEC = 0x20,
};

/* ---- prctl(2): linux/prctl.h ---- */

enum {
	UAPI_PR_SCHED_CORE = 62, /* 5.14 */
	UAPI_PR_SCHED_CORE_GET = 0,
	UAPI_PR_SET_MDWE = 65, /* 6.3 */
	UAPI_PR_GET_MDWE = 66,
	UAPI_PR_SET_MEMORY_MERGE = 67, /* 6.4 */
	UAPI_PR_GET_MEMORY_MERGE = 68,
	UAPI_PR_TIMER_CREATE_RESTORE_IDS = 77, /* 6.15 */
};

/* ---- futex_waitv(2) ---- */

enum { UAPI_SYS_FUTEX_WAITV = 449 }; /* 5.16 */

/* ---- ptrace(2): linux/ptrace.h ---- */

#define UAPI_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211 /* 6.4 */

struct uapi_ptrace_sud_config {
	uint64_t mode; /* PR_SYS_DISPATCH_OFF is 0 */
	uint64_t selector, offset, size_bytes;
};

/* ---- membarrier(2): linux/membarrier.h ---- */

enum {
	UAPI_MEMBARRIER_GET_REGISTRATIONS = 1 << 9, /* 6.3 */
};
