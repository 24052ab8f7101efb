/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a part of a task's state has to know about itself, where that part is no file: credentials, signal handlers,
 * timers, limits, scheduling …
 *
 * Each part is one file here with both halves side by side and one struct state_ops at its end. All that is asked of
 * the tasks themselves goes out as one batch for each thread, all threads at once; so asking and saving are two steps.
 */
#pragma once

#include "core.pb-c.h"
#include "godwit-thread.pb-c.h"
#include "image/store.h"
#include "objects/objects.h"
#include "task/process.h"

enum state_scope {
	STATE_PROCESS, /* once, with the thread group leader's core */
	STATE_THREAD,  /* for each thread, with its own core */
};

/* A thread whose state is saved. All borrowed. */
struct state_save {
	struct process *process;
	const struct thread *thread;
	struct image_store *store; /* for what isn't part of the core entry */
	/* Goes into core-TID.img. What save() hangs into it is allocated one by one with xalloc() (also strings and
	 * arrays), as if unpacked: it is freed by core_entry__free_unpacked(). Present when save() is called: tc (leader
	 * only), thread_core, thread_core->creds (zeroed). */
	CoreEntry *core;
	/* Goes into threads-PID.godwit: what the core entry has no field for. The same holds. */
	GodwitThreadEntry *extra;
	const struct carry_options *options;
	const void *looked; /* for save(): what look() has left; NULL: the part has none */
};

/* A thread whose state is restored. All borrowed. */
struct state_restore {
	struct process *process; /* the new one; for parts that may need more calls than one batch has room for */
	size_t thread;           /* in process */
	pid_t pid, tid;          /* of the new task, as this process sees it */
	pid_t own_pid, own_tid;  /* as it sees itself, and as in the images */
	const CoreEntry
		*core; /* from an image: well-formed protobuf, tc and thread_core are there, nothing else holds */
	CoreEntry *const
		*cores; /* the same, of all threads, the leader first; NULL: in process, a thread that has ended */
	size_t core_count;
	const GodwitThreadEntry *leader; /* the same, of the leader */
	const GodwitThreadEntry *extra;  /* the same; of an image that isn't godwit's it says nothing */
	const struct image_store *store;
	const struct carry_options *options;
};

struct state_ops {
	const char *name;
	enum state_scope scope;

	/* An error that names what can't be carried, before anything is frozen: reads /proc only. May be NULL. */
	struct error *(*check)(pid_t pid, pid_t tid, const struct carry_options *options);

	/*
	 * What can be read long before the freeze and is only checked in it, from /proc; the result (or NULL) is passed
	 * to ask() and save() and freed with free(3) by the caller. May be NULL.
	 */
	struct error *(*collect)(pid_t pid, pid_t tid, void **ret_collected);

	/* Appends what only the thread itself can tell (runs frozen). Returns what save() needs to find the answers,
	 * freed with free(3) by the caller, or NULL. May be NULL. */
	void *(*ask)(const struct state_save *state, struct batch *batch);

	/*
	 * Reads from /proc what only a file there tells (runs frozen). Several threads do this for all tasks at once: it
	 * allocates nothing, and leaves look_bytes, which are zeros before, to save(). task_fd is the folder /proc/PID/task.
	 * May be NULL.
	 */
	void (*look)(int task_fd, pid_t tid, void *ret_looked);
	size_t look_bytes;

	/* Fills its part of the core entry (runs frozen: no /proc where a batch can tell). batch has run. */
	struct error *(*save)(const struct state_save *state, const void *collected, const void *asked,
	                      const struct batch *batch);

	/* What makes a restore here fail, found in an image before anything is made. state has no process, thread, pid and
	 * tid. May be NULL. */
	struct error *(*preflight)(const struct state_restore *state);

	/* From outside and by appending to the thread's batch, in the order of the list in meson.build: what takes
	 * privileges away stands last there. */
	struct error *(*restore)(const struct state_restore *state, struct batch *batch);
};

/* All parts in the order in which they are restored. Ends with NULL. */
extern const struct state_ops *const all_state_ops[];
