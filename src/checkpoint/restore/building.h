/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the parts of building a tree of processes share. For build*.c only. */
#pragma once

#include "arch/x86_64/core.h"
#include "checkpoint/model.h"
#include "checkpoint/restore/build.h"
#include "checkpoint/restore/pid_space.h"
#include "checkpoint/tree.h"
#include "objects/file_locks.h"
#include "objects/sysv/sysv.h"
#include "task/cgroup.h"
#include "task/process.h"

/* A connection that is to go on once the network is open. */
struct resume_file {
	uint32_t entry_id;
	int fd; /* owned: a copy of its descriptor */
};

/* An object of System V that is made: what tells it from another one that has got its id. */
struct build_sysv {
	enum sysv_kind kind;
	uint32_t id, cuid, key;
};

/* One process of the tree. */
struct build_task {
	struct build *build;          /* borrowed */
	size_t index;                 /* in the tree */
	struct model *model;          /* owned; of what is restored */
	struct process *process;      /* owned; NULL: not made yet, or has ended */
	bool has_ended;               /* a zombie that is one by now */
	uint64_t vdso_address;        /* of the program that it is built for; 0: none */
	bool is_torn;                 /* some of its memory is of another program than the rest */
	struct memory *memory;        /* owned */
	struct file_locks busy_locks; /* that the program still has where it comes from */
};

struct build {
	struct build_options options;
	const struct image_store *store; /* borrowed; of what is restored */
	struct tree tree;                /* owned; the same */
	struct build_task **tasks;       /* owned; as in the tree */
	struct pid_space *space;         /* owned; NULL: that of this process */
	struct cgroup_home *home;        /* owned; NULL: where we are */
	struct shared_build *shared;     /* owned */
	struct restore_files *files;     /* owned; of what is restored */
	struct restored_ghosts *ghosts;  /* owned */
	int own_pidfd;                   /* owned: of this process, for the tasks to fetch descriptors from */
	int spare_base;                  /* numbers from here on are no descriptors of the program */
	struct resume_file *resume;      /* owned */
	size_t resume_count;
	struct build_sysv *sysv; /* owned: semaphores and queues */
	size_t sysv_count;
	bool is_released;
	struct arch_fpu_layout layout;
};

/* The root of the tree. */
static inline struct build_task *build_root(const struct build *build)
{
	return build->tasks[0];
}

/* Goes through the tasks that there are: not those that are, or will be, zombies. */
static inline struct build_task *build_next(const struct build *build, size_t *index)
{
	while (*index < build->tree.count) {
		struct build_task *task = build->tasks[(*index)++];

		if (task->process)
			return task;
	}
	return NULL;
}

/* The task fetches a copy of a descriptor of ours: pidfd_getfd(2). Stands for its number there. */
struct arg build_fetch_fd(const struct build_task *task, struct batch *batch, int fd_here);

/* The same at once. */
MUST_USE struct error *build_fetch_fd_now(const struct build_task *task, int fd_here, int *ret_fd_in_task);

/* ---- Tasks: build_tasks.c ---- */

/* Nothing but its place. Never NULL. */
struct build_task *build_task_new(struct build *build, size_t index);

/* Frees what is known of it here. */
void build_task_free(struct build_task *task);

/* Ends its process, if there is one. */
void build_task_end(struct build_task *task);

/* Where the vDSO of the program is, 0: nowhere. Each execve(2) finds another place for it. */
uint64_t build_vdso_address(const MmEntry *mm);

/* The store has changed: reads the tree anew, keeps the tasks that are the same processes, and ends the others. Models are
 * for the caller to read, and new processes to make. */
MUST_USE struct error *build_match(struct build *build);

/* ---- Bare tasks: build_bare.c ---- */

/* Makes the root: a bare task with its PID, session and group. */
MUST_USE struct error *build_make_root(struct build *build);

/* A task that has just been made, and is stopped: brings the stub in. */
MUST_USE struct error *build_enter(struct build_task *task);

/* Unmaps all but the stub and what the kernel put there: vDSO and its data. */
MUST_USE struct error *build_clear_memory(const struct build_task *task);

/* ---- The others: build_family.c ---- */

/* All others that aren't there yet, each made by its parent, in their sessions and groups. Zombies have ended by then. */
MUST_USE struct error *build_make_family(struct build *build);

/* A completed task goes into the stop that it was in. Its parent, which isn't completed yet, counts as told of that. */
MUST_USE struct error *build_stop_child(const struct build_task *task);

/* SIGCHLD of a child that ended or stopped while all was built: what the program has not seen of it yet comes with its state. */
MUST_USE struct error *build_drain_sigchld(const struct build_task *parent);

/* ---- Shared memory: build_shared.c ---- */

/* Makes what shared memory these areas and this store's memfd.img tell of, where it isn't there yet. */
MUST_USE struct error *build_shared_make(struct build *build, const struct image_store *store, const MmEntry *mm);

/* Hands the memfds of this store to files, for those that restore descriptors and mappings of them. */
MUST_USE struct error *build_shared_give(struct build *build, const struct image_store *store,
                                         struct restore_files *files);

/* A copy here of the descriptor of what an area of anonymous shared memory maps. */
MUST_USE struct error *build_shared_open(struct build *build, const VmaEntry *vma, int *ret_fd);

/* Final sizes, owners and seals of memfds and segments. */
MUST_USE struct error *build_shared_seal(struct build *build);

/* ---- System V: build_sysv.c ---- */

/* The segment with that id, as this store tells of it, if it isn't there yet. */
MUST_USE struct error *build_segment_make(struct build *build, const struct image_store *store, uint32_t id);

/* What is left to do with segments when all are attached. Those that the program has given up meanwhile go. */
MUST_USE struct error *build_segments_finish(struct build *build);

/* Semaphores and queues, with all that is in them. */
MUST_USE struct error *build_semaphores_and_queues(struct build *build);

/* The tasks have ended: nothing that was made for them stays. */
void build_sysv_undo(const struct build *build);

/* ---- Files: build_files.c, build_folders.c ---- */

/* All descriptors of all tasks in their places, working and root folders, locks. */
MUST_USE struct error *build_files(struct build *build);

/* The keeper removes the folder of this path, which is about to be made, if we are killed. context is the build. */
MUST_USE struct error *build_watch_folder(const char *path, void *context);

/* ---- Threads: build_threads.c ---- */

/* What of the threads' state can't be restored here. */
MUST_USE struct error *build_threads_preflight(const struct build_task *task);

/* The other threads, and the state of all. */
MUST_USE struct error *build_threads(struct build_task *task);

/* Makes the threads that are missing, and ends those that are none of these. tids[0] is the leader. */
MUST_USE struct error *build_follow_threads(struct build_task *task, const uint32_t *tids, size_t count);
