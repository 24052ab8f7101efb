/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>

#include "memory/shared_send.h"
#include "migrate/frames.h"
#include "migrate/memory_sending.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* A process whose memory is tracked. */
struct tracked {
	pid_t pid, own_pid;
	struct program_id program; /* that the tracker is of */
	struct tracker *tracker;   /* owned */
};

struct memory_sending {
	bool is_tracking;
	enum track track;
	const char *way;
	struct tracked *list; /* owned */
	size_t count;
	struct shared_sender *shared; /* owned */
};

struct memory_sending *memory_sending_new(bool is_tracking, enum track track)
{
	struct memory_sending *memory = xalloc(sizeof(*memory));

	memory->is_tracking = is_tracking;
	memory->track = track;
	memory->shared = shared_sender_new();
	return memory;
}

void memory_sending_free(struct memory_sending *memory)
{
	if (!memory)
		return;
	for (size_t i = 0; i < memory->count; i++)
		tracker_free(memory->list[i].tracker);
	free(memory->list);
	shared_sender_free(memory->shared);
	free(memory);
}

const char *memory_sending_way(const struct memory_sending *memory)
{
	return memory->way;
}

/* ---- Who is tracked ---- */

static bool is_of(const struct tracked *tracked, const struct live_tree *live, size_t task)
{
	return tracked->pid == live->list[task].pid && program_id_is_same(&tracked->program, &live->programs[task]);
}

/* NULL: it isn't tracked. */
static struct tracker *tracker_of(const struct memory_sending *memory, const struct live_tree *live, size_t task)
{
	for (size_t i = 0; i < memory->count; i++)
		if (is_of(&memory->list[i], live, task))
			return memory->list[i].tracker;
	return NULL;
}

struct error *memory_sending_track(struct memory_sending *memory, const struct saver *saver,
                                   const struct frozen *frozen)
{
	const struct live_tree *live = saver_live(saver);

	for (size_t i = 0; memory->is_tracking && i < live->tree.count; i++) {
		struct tracked tracked = {.pid = live->list[i].pid, .own_pid = live->list[i].own_pid};

		if (!saver_owns_memory(saver, i) || tracker_of(memory, live, i))
			continue;
		tracked.program = live->programs[i];
		TRY(tracker_new(frozen->processes[i], memory->track, &tracked.tracker));
		memory->list = xrealloc(memory->list, (memory->count + 1) * sizeof(*memory->list));
		memory->list[memory->count++] = tracked;
		memory->way = tracker_way(tracked.tracker);
	}
	return NULL;
}

static bool is_there(const struct tracked *tracked, const struct live_tree *live)
{
	int at = live_tree_find(live, tracked->pid);

	return at >= 0 && !live->tree.tasks[at].is_zombie && is_of(tracked, live, (size_t)at);
}

void memory_sending_sweep(struct memory_sending *memory, const struct saver *saver)
{
	size_t kept = 0;

	for (size_t i = 0; i < memory->count; i++) {
		if (is_there(&memory->list[i], saver_live(saver)))
			memory->list[kept++] = memory->list[i];
		else
			tracker_free(memory->list[i].tracker);
	}
	memory->count = kept;
}

void memory_sending_begin_anew(struct memory_sending *memory, const char *own_pids)
{
	char *end;

	for (const char *next = own_pids;; next = end) {
		pid_t own_pid = (pid_t)strtol(next, &end, 10);

		if (end == next)
			return;
		for (size_t i = 0; i < memory->count; i++)
			if (memory->list[i].own_pid == own_pid)
				tracker_begin_anew(memory->list[i].tracker);
	}
}

/* ---- Areas ---- */

/* Where those of a task are by now. frozen is NULL while it runs. */
static struct error *send_areas(struct memory_sending *memory, struct saver *saver, size_t task,
                                const struct frozen *frozen, struct channel *channel)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_ranges struct ranges gone = {0};
	struct tracker *tracker = tracker_of(memory, saver_live(saver), task);
	pid_t own_pid = saver_live(saver)->list[task].own_pid;

	if (frozen)
		TRY(saver_save_areas(saver, task, frozen, store, &gone));
	else
		TRY(saver_save_moving_areas(saver, task, &store, &gone));
	if (tracker)
		tracker_forget(tracker, &gone);
	TRY(frame_send_store(channel, store));
	TRY(frame_send_ranges(channel, FRAME_GONE, own_pid, &gone));
	return frame_send_pid(channel, FRAME_REMAP, own_pid);
}

struct error *memory_sending_areas(struct memory_sending *memory, struct saver *saver, const struct frozen *frozen,
                                   struct channel *channel)
{
	for (size_t i = 0; i < saver_count(saver); i++)
		if (saver_owns_memory(saver, i))
			TRY(send_areas(memory, saver, i, frozen, channel));
	return NULL;
}

/* ---- Pages ---- */

static struct error *send_shared(struct memory_sending *memory, const struct saver *saver, bool is_frozen,
                                 struct page_sink *sink)
{
	auto_shared_objects struct shared_objects objects = {0};
	auto_free struct unwritten *unwritten = xalloc((memory->count + 1) * sizeof(*unwritten));

	for (size_t i = 0; i < memory->count; i++)
		unwritten[i] = (struct unwritten){
			.pid = memory->list[i].pid,
			.ranges = tracker_unwritten(memory->list[i].tracker),
		};
	TRY(saver_shared(saver, &objects));
	return shared_sender_send(memory->shared, &objects, unwritten, is_frozen, sink);
}

/* It is the process and the program that it was in the draft. */
static bool is_current(const struct live_tree *live, size_t task)
{
	struct program_id program;

	if (procfs_is_dead(live->list[task].pid))
		return false;
	program_id_read(live->list[task].pid, &program);
	return program_id_is_same(&program, &live->programs[task]);
}

static struct error *send_round_of(struct memory_sending *memory, struct saver *saver, size_t task,
                                   struct page_sending *sending)
{
	struct tracker *tracker = tracker_of(memory, saver_live(saver), task);

	TRY(send_areas(memory, saver, task, NULL, sending->channel));
	sending->pid = saver_live(saver)->list[task].own_pid;
	return tracker ? tracker_round(tracker, saver_areas(saver, task), &sending->sink) : NULL;
}

struct error *memory_sending_round(struct memory_sending *memory, struct saver *saver, struct page_sending *sending,
                                   bool *ret_is_stale)
{
	for (size_t i = 0; i < saver_count(saver); i++) {
		if (!saver_owns_memory(saver, i))
			continue;
		struct error *error = is_current(saver_live(saver), i) ? send_round_of(memory, saver, i, sending)
		                                                       : error_new(ESRCH, "it has ended");
		/* What has failed because it isn't there any more is no error. */
		if (!error)
			continue;
		if (procfs_is_dead(saver_live(saver)->list[0].pid) || is_current(saver_live(saver), i))
			return i == 0 ? error : error_wrap(error, "process %d", saver_live(saver)->list[i].pid);
		error_free(error);
		*ret_is_stale = true;
	}
	return send_shared(memory, saver, false, &sending->sink);
}

struct error *memory_sending_count(struct memory_sending *memory, const struct saver *saver, uint64_t *ret_pages)
{
	const struct live_tree *live = saver_live(saver);
	uint64_t all = 0;

	for (size_t i = 0; i < saver_count(saver); i++) {
		struct tracker *tracker = saver_owns_memory(saver, i) ? tracker_of(memory, live, i) : NULL;
		uint64_t pages = 0;
		struct error *error = tracker ? tracker_count(tracker, saver_areas(saver, i), &pages) : NULL;

		if (error && (i == 0 || is_current(live, i)))
			return error;
		error_free(error);
		all += pages;
	}
	*ret_pages = all;
	return NULL;
}

struct error *memory_sending_last(struct memory_sending *memory, const struct saver *saver, const struct frozen *frozen,
                                  struct page_sending *sending)
{
	for (size_t i = 0; i < saver_count(saver); i++) {
		if (!saver_owns_memory(saver, i))
			continue;
		struct tracker *tracker = tracker_of(memory, saver_live(saver), i);
		sending->pid = saver_live(saver)->list[i].own_pid;
		if (tracker)
			TRY(tracker_finish(tracker, saver_areas(saver, i), &sending->sink));
		else
			TRY(pages_send(frozen->processes[i], saver_areas(saver, i), &sending->sink));
	}
	return send_shared(memory, saver, true, &sending->sink);
}
