/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Building a program, a tree of processes, from images: the other half of save.h.
 *
 *     build_new()       bare tasks with the right PIDs; their areas mapped, empty
 *     build_memory()    … to be filled with pages
 *     build_complete()  descriptors, threads, credentials …: they stand at where the program was, stopped
 *     build_outlive()   from here on they live without us: if we die they stand still until alive_go_on()
 *     build_resume()    connections go on, once the network is open
 *     build_release()   they run
 *
 * Where nothing else is said, a PID is that of the root, the first process of the tree.
 *
 * Until build_outlive() nothing of them outlives us, and build_free() leaves nothing behind. A connection that the network
 * can reach must not be closed any more, so that comes before the network is opened.
 */
#pragma once

#include "checkpoint/clocks.h"
#include "memory/build.h"
#include "memory/shared_build.h"
#include "objects/objects.h"
#include "util/log.h"

struct build;

struct build_options {
	const struct carry_options *carry; /* borrowed until free */
	struct keeper *keeper;             /* borrowed until free: undoes or finishes what we don't come to */
	const struct clocks
		*clocks;      /* borrowed until free: how far its clocks are ahead of ours; NULL: they are ours */
	struct log *log;      /* borrowed until free; may be NULL */
	bool is_left_stopped; /* also one that wasn't stopped when it was saved */
	bool new_pids;        /* in a PID namespace of its own */
	bool is_child;        /* of this process, in its control groups; else an orphan in groups of its own */
	bool program_runs;    /* until build_renew(): its files may change meanwhile */
	bool is_on_record;    /* in a journal, by which the keeper knows what to finish behind build_outlive() */
};

/* store is borrowed until free. */
MUST_USE struct error *build_new(const struct image_store *store, const struct build_options *options,
                                 struct build **ret_build);
void build_free(struct build *build);
DEFINE_OWNED(struct build *, build_free)
#define auto_build AUTO(build_free)

/* What can be known before anything is made: missing and different files, a taken PID. */
MUST_USE struct error *build_preflight(const struct image_store *store, const struct build_options *options);

/* The same of what saver_sketch() has told of its files while it runs. */
MUST_USE struct error *build_preflight_sketch(const struct image_store *sketch, const struct carry_options *carry);

/*
 * The areas of a process (by its own PID) have changed, and its threads: gone is unmapped, and the store (borrowed for the
 * call) holds its mm-PID.img, the files that are mapped, and pstree.img with nobody else, as of now.
 */
MUST_USE struct error *build_remap(struct build *build, pid_t own_pid, const struct image_store *store,
                                   const struct ranges *gone);

/*
 * The program has other processes by now: store (borrowed until free, or until the next one) is what build_new() would get
 * now. Those that are there already stay as they are. *ret_new: own PIDs of new ones, whose memory is empty, with a space
 * between two of them; the caller frees it.
 */
MUST_USE struct error *build_follow(struct build *build, const struct image_store *store, char **ret_new);

/* From here on everything but the areas is taken from this store, borrowed until free. The processes are the same. */
MUST_USE struct error *build_renew(struct build *build, const struct image_store *store);

/* That of a process (by its own PID); NULL: it has none of its own. The other goes through all: *index is 0 at first. */
struct memory *build_memory(const struct build *build, pid_t own_pid);
bool build_next_memory(const struct build *build, size_t *index, pid_t *ret_own_pid, struct memory **ret_memory);
struct shared_build *build_shared(struct build *build);

/* error came of filling the memory of a process. Where that may have executed another program since its areas were sent it is
 * made anew with the next build_follow(), and that is no error. Consumes error. */
MUST_USE struct error *build_forgive(struct build *build, pid_t own_pid, struct error *error);
pid_t build_pid(const struct build *build);   /* as this process sees it, as soon as it is there */
pid_t build_child(const struct build *build); /* whose end is its end, if it is to be a child of this process */

/* How many processes there are, without those that have ended and wait for their parent. */
size_t build_count(const struct build *build);
/* Those that don't run at the end. The caller frees the array. */
pid_t *build_stopped(const struct build *build, size_t *ret_count);
MUST_USE struct error *build_complete(struct build *build);
MUST_USE struct error *build_outlive(struct build *build);
MUST_USE struct error *build_resume(struct build *build);
MUST_USE struct error *build_release(struct build *build);

/*
 * File locks that the program still has where it comes from, on a file system that both hosts share: between
 * build_resume() and build_release(), when that one has been told to end, takes them as soon as they are free. The error
 * says which weren't.
 */
bool build_has_busy_locks(const struct build *build);
MUST_USE struct error *build_take_locks(struct build *build, int wait_ms);
