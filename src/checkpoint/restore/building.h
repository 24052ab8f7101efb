/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the parts of building a process share. For build*.c only. */
#pragma once

#include "arch/x86_64/core.h"
#include "checkpoint/restore/build.h"
#include "checkpoint/restore/pid_space.h"
#include "objects/file_locks.h"
#include "task/cgroup.h"
#include "task/process.h"

/* A connection that is to go on once the network is open. */
struct resume_file {
	uint32_t entry_id;
	int fd; /* owned: a copy of its descriptor */
};

struct build {
	struct build_options options;
	struct model *model;            /* owned; of what is restored */
	struct process *process;        /* owned */
	struct pid_space *space;        /* owned; NULL: that of this process */
	struct cgroup_home *home;       /* owned; NULL: where we are */
	struct memory *memory;          /* owned; NULL once it is complete */
	struct shared_build *shared;    /* owned */
	struct restore_files *files;    /* owned; of what is restored */
	struct restored_ghosts *ghosts; /* owned */
	int own_pidfd;                  /* owned: of this process, for the task to fetch descriptors from */
	int spare_base;                 /* numbers from here on are no descriptors of the program */
	struct resume_file *resume;     /* owned */
	size_t resume_count;
	struct file_locks busy_locks; /* that the program still has where it comes from */
	bool is_released;
	struct arch_fpu_layout layout;
};

/* The task fetches a copy of a descriptor of ours: pidfd_getfd(2). Stands for its number there. */
struct arg build_fetch_fd(struct build *build, struct batch *batch, int fd_here);

/* The same at once. */
MUST_USE struct error *build_fetch_fd_now(struct build *build, int fd_here, int *ret_fd_in_task);

/* Makes what shared memory these areas and this store's memfd.img tell of, where it isn't there yet. */
MUST_USE struct error *build_shared_make(struct build *build, const struct image_store *store, const MmEntry *mm);

/* Hands the memfds of this store to files, for those that restore descriptors and mappings of them. */
MUST_USE struct error *build_shared_give(struct build *build, const struct image_store *store,
                                         struct restore_files *files);

/* A copy here of the descriptor of what an area of anonymous shared memory maps. */
MUST_USE struct error *build_shared_open(struct build *build, const VmaEntry *vma, int *ret_fd);

/* Final sizes, owners and seals of memfds. */
MUST_USE struct error *build_shared_seal(struct build *build);

/* All descriptors in their places, working and root folder. */
MUST_USE struct error *build_files(struct build *build);

/* The keeper removes the folder of this path, which is about to be made, if we are killed. context is the build. */
MUST_USE struct error *build_watch_folder(const char *path, void *context);

/* What of the threads' state can't be restored here. */
MUST_USE struct error *build_threads_preflight(struct build *build);

/* The other threads, and the state of all. */
MUST_USE struct error *build_threads(struct build *build);

/* Makes the threads that are missing, and ends those that are none of these. tids[0] is the leader. */
MUST_USE struct error *build_follow_threads(struct build *build, const uint32_t *tids, size_t count);
