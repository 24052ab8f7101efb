/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * POSIX timers: timer_create(2). They come back with their ids and the time that was left.
 *
 * What there are is told by proc_pid_timers(5), the time that is left only by the process itself. Ids are given by the
 * kernel one after the other; since Linux 6.15 a process may ask for those it wants. How often a timer has overrun is
 * kept for readers of the image, but no call can set it.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/uapi.h"

enum {
	TIMERS_PER_BATCH = 24,
	ID_TRIES_MAX = 4096, /* without Linux 6.15 an id is reached by making timers and deleting them */
};

/* What the kernel takes: sigevent(3type). */
struct kernel_sigevent {
	uint64_t value;
	int32_t signal, notify, tid;
	int32_t padding[11];
};

/* ---- Saving ---- */

static int notify_of(const char *how, const char *whom)
{
	int notify = strcmp(how, "signal") == 0 ? SIGEV_SIGNAL : strcmp(how, "thread") == 0 ? SIGEV_THREAD : SIGEV_NONE;

	return strcmp(whom, "tid") == 0 ? notify | SIGEV_THREAD_ID : notify;
}

/* One timer of proc_pid_timers(5); moves *text behind it. NULL: that isn't one. */
static PosixTimerEntry *parse_timer(const char **text)
{
	int length = 0;
	int id;
	int signal;
	int receiver;
	int clock;
	uint64_t value;
	char how[8];
	char whom[4];

	if (sscanf(*text, "ID: %d signal: %d/%" SCNx64 " notify: %7[a-z]/%3[a-z].%d ClockID: %d%n", &id, &signal,
	           &value, how, whom, &receiver, &clock, &length) != 7 ||
	    length == 0)
		return NULL;
	*text += length;
	*text += strspn(*text, " \n");
	PosixTimerEntry *entry = xalloc(sizeof(*entry));
	posix_timer_entry__init(entry);
	entry->it_id = (uint32_t)id;
	entry->si_signo = (uint32_t)signal;
	entry->sival_ptr = value;
	entry->it_sigev_notify = (uint32_t)notify_of(how, whom);
	entry->clock_id = (uint32_t)clock;
	entry->has_notify_thread_id = (entry->it_sigev_notify & SIGEV_THREAD_ID) != 0;
	entry->notify_thread_id = receiver;
	return entry;
}

/*
 * Clocks of processor time: the PID or TID that they belong to, its bits inverted, then which of three times, and
 * whether of a thread. 0 is the process or thread that makes the timer; CLOCK_THREAD_CPUTIME_ID is shown so, too.
 */
enum { CLOCK_KIND = 3, CLOCK_OF_THREAD = 4, CLOCK_OF_FILE = 3, CLOCK_OWNER_SHIFT = 3 };

static pid_t clock_owner(int32_t clock)
{
	return (pid_t) ~(clock >> CLOCK_OWNER_SHIFT);
}

static bool is_of_maker(const PosixTimerEntry *entry)
{
	int32_t clock = (int32_t)entry->clock_id;

	return clock == CLOCK_THREAD_CPUTIME_ID || (clock < 0 && (clock & CLOCK_OF_THREAD) && clock_owner(clock) == 0);
}

/* As the program calls it, which is in a PID namespace of its own perhaps: clocks have those numbers. */
static pid_t own_tid(pid_t pid, pid_t tid)
{
	pid_t own = tid;

	return procfs_own_tid(pid, tid, &own) < 0 ? tid : own;
}

static bool has_thread(pid_t pid, pid_t own)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	if (procfs_numbers(pid, "task", &tids, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		if (own_tid(pid, tids[i]) == own)
			return true;
	return false;
}

/* Is it a clock of the program's own, or one that all have? */
static bool is_carried_clock(pid_t pid, const PosixTimerEntry *entry)
{
	int32_t clock = (int32_t)entry->clock_id;
	pid_t owner = clock_owner(clock);

	if (is_of_maker(entry)) /* nobody tells who made it, but the thread that gets the signals */
		return entry->has_notify_thread_id;
	if (clock >= 0)
		return true;
	if ((clock & CLOCK_KIND) == CLOCK_OF_FILE)
		return false;
	if (!(clock & CLOCK_OF_THREAD))
		return owner == 0 || owner == own_tid(pid, pid);
	return has_thread(pid, owner);
}

static struct error *check_clock(pid_t pid, const PosixTimerEntry *entry)
{
	if (is_carried_clock(pid, entry))
		return NULL;
	return error_hint(error_new(ENOTSUP, "POSIX timer %u on clock %d", entry->it_id, (int32_t)entry->clock_id),
	                  "timers on the processor time of a thread are carried if their signals go to that thread "
	                  "(SIGEV_THREAD_ID); on clocks of other processes and of devices they aren't");
}

static struct error *read_timers(pid_t pid, TaskTimersEntry *timers)
{
	auto_free char *text = NULL;
	size_t room = 0;
	int is_apart = -1; /* in a PID namespace of its own; below 0: nobody has looked */

	int r = procfs_read(pid, "timers", &text, NULL);
	if (r == -ENOENT) /* a kernel without POSIX timers, or CONFIG_CHECKPOINT_RESTORE, which we have checked */
		return NULL;
	if (r < 0)
		return error_new(-r, "timers of process %d", pid);
	for (const char *next = text; *next;) {
		PosixTimerEntry *entry = parse_timer(&next);

		if (!entry)
			return error_new(EPROTO, "timers of process %d: \"%.40s\"", pid, next);
		/* The kernel shows it as we call it. */
		if (entry->has_notify_thread_id && is_apart < 0)
			is_apart = own_tid(pid, pid) != pid;
		if (entry->has_notify_thread_id && is_apart)
			entry->notify_thread_id = own_tid(pid, entry->notify_thread_id);
		if (timers->n_posix == room) {
			room = room ? room * 2 : 8;
			timers->posix = reallocarray(timers->posix, room, sizeof(PosixTimerEntry *));
			if (!timers->posix)
				abort();
		}
		timers->posix[timers->n_posix++] = entry;
		TRY(check_clock(pid, entry));
	}
	return NULL;
}

static struct error *posix_timers_check(pid_t pid, pid_t tid, const struct carry_options *options)
{
	TaskTimersEntry timers = TASK_TIMERS_ENTRY__INIT;

	(void)tid;
	(void)options;
	struct error *error = read_timers(pid, &timers);
	for (size_t i = 0; i < timers.n_posix; i++)
		posix_timer_entry__free_unpacked(timers.posix[i], NULL);
	free(timers.posix);
	/* It may have ended. */
	if (!error || error_errnum(error) == ENOTSUP)
		return error;
	error_free(error);
	return NULL;
}

struct times {
	struct arg spec, overrun;
};

static void take_times(const struct batch *batch, const struct times *times, PosixTimerEntry *entry)
{
	struct itimerspec spec;

	memcpy(&spec, batch_output(batch, times->spec), sizeof(spec));
	entry->isec = (uint64_t)spec.it_interval.tv_sec;
	entry->insec = (uint64_t)spec.it_interval.tv_nsec;
	entry->vsec = (uint64_t)spec.it_value.tv_sec;
	entry->vnsec = (uint64_t)spec.it_value.tv_nsec;
	entry->overrun = (uint32_t)batch_result(batch, times->overrun);
}

/* In batches of its own: there may be many. */
static struct error *ask_times(struct process *process, const TaskTimersEntry *timers, size_t first, size_t end)
{
	auto_batch struct batch *batch = process_batch(process, 0);
	struct times times[TIMERS_PER_BATCH];

	for (size_t i = first; i < end; i++) {
		struct arg id = val(timers->posix[i]->it_id);

		batch_about(batch, "POSIX timer", timers->posix[i]->it_id);
		times[i - first].spec = batch_space(batch, sizeof(struct itimerspec));
		batch_call(batch, timer_gettime, id, times[i - first].spec);
		times[i - first].overrun = batch_call(batch, timer_getoverrun, id);
	}
	TRY(process_run(process, batch));
	for (size_t i = first; i < end; i++)
		take_times(batch, &times[i - first], timers->posix[i]);
	return NULL;
}

static struct error *posix_timers_save(const struct state_save *state, const void *collected, const void *asked,
                                       const struct batch *batch)
{
	TaskTimersEntry *timers = state->core->tc->timers;

	(void)collected;
	(void)asked;
	(void)batch;
	TRY(read_timers(state->process->pid, timers));
	for (size_t i = 0; i < timers->n_posix; i += TIMERS_PER_BATCH) {
		size_t end = i + TIMERS_PER_BATCH < timers->n_posix ? i + TIMERS_PER_BATCH : timers->n_posix;

		TRY(ask_times(state->process, timers, i, end));
	}
	return NULL;
}

/* ---- Restoring ---- */

static void append_timer(struct batch *batch, const PosixTimerEntry *entry, struct arg *ret_id)
{
	const struct kernel_sigevent event = {
		.value = entry->sival_ptr,
		.signal = (int32_t)entry->si_signo,
		.notify = (int32_t)entry->it_sigev_notify,
		.tid = entry->has_notify_thread_id ? entry->notify_thread_id : 0,
	};
	int32_t id = (int32_t)entry->it_id;

	batch_about(batch, "POSIX timer", entry->it_id);
	*ret_id = batch_bytes(batch, &id, sizeof(id));
	batch_call(batch, timer_create, val((uint64_t)(int64_t)(int32_t)entry->clock_id),
	           batch_bytes(batch, &event, sizeof(event)), *ret_id);
}

static void append_time(struct batch *batch, const PosixTimerEntry *entry)
{
	const struct itimerspec spec = {
		.it_interval = {.tv_sec = (time_t)entry->isec, .tv_nsec = (long)entry->insec},
		.it_value = {.tv_sec = (time_t)entry->vsec, .tv_nsec = (long)entry->vnsec},
	};

	if (entry->vsec || entry->vnsec)
		batch_call(batch, timer_settime, val(entry->it_id), val(0), batch_bytes(batch, &spec, sizeof(spec)),
		           val(0));
}

/* Timers with the ids that they had. *ret_can is false where the kernel is older than that. */
static struct error *restore_with_ids(const struct state_restore *state, bool *ret_can)
{
	auto_batch struct batch *batch = process_batch(state->process, state->thread);
	struct arg on = batch_call(batch, prctl, val(UAPI_PR_TIMER_CREATE_RESTORE_IDS), val(1), val(0), val(0), val(0));

	batch_may_fail(batch, on);
	TRY(process_run(state->process, batch));
	*ret_can = batch_result(batch, on) == 0;
	return NULL;
}

static struct error *end_ids(const struct state_restore *state)
{
	auto_batch struct batch *batch = process_batch(state->process, state->thread);

	batch_call(batch, prctl, val(UAPI_PR_TIMER_CREATE_RESTORE_IDS), val(0), val(0), val(0), val(0));
	return process_run(state->process, batch);
}

/* The thread whose clock it is, where that is the one that makes it. */
static size_t maker(const struct state_restore *state, const PosixTimerEntry *entry)
{
	if (is_of_maker(entry))
		for (size_t i = 0; i < state->process->thread_count; i++)
			if (state->process->threads[i].own_tid == entry->notify_thread_id)
				return i;
	return state->thread;
}

/* Before Linux 6.15: a timer that got a lower id than it should have is deleted, and made again. */
static struct error *make_by_trying(const struct state_restore *state, const PosixTimerEntry *entry)
{
	for (int tries = 0; tries < ID_TRIES_MAX; tries++) {
		auto_batch struct batch *batch = process_batch(state->process, maker(state, entry));
		struct arg id;
		int32_t got;

		append_timer(batch, entry, &id);
		TRY(process_run(state->process, batch));
		memcpy(&got, batch_output(batch, id), sizeof(got));
		if ((uint32_t)got == entry->it_id)
			return NULL;
		auto_batch struct batch *remove = process_batch(state->process, state->thread);
		batch_call(remove, timer_delete, val((uint64_t)got));
		TRY(process_run(state->process, remove));
		if ((uint32_t)got > entry->it_id)
			break;
	}
	return error_hint(error_new(ENOTSUP, "POSIX timer %u can't be made with its number", entry->it_id),
	                  "Linux 6.15 and newer can");
}

static struct error *make(const struct state_restore *state, const PosixTimerEntry *entry, bool can_ids)
{
	auto_batch struct batch *batch = process_batch(state->process, maker(state, entry));
	struct arg id;

	if (can_ids)
		append_timer(batch, entry, &id);
	else
		TRY(make_by_trying(state, entry));
	append_time(batch, entry);
	return process_run(state->process, batch);
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t first = (*(PosixTimerEntry *const *)a)->it_id;
	uint32_t second = (*(PosixTimerEntry *const *)b)->it_id;

	return (first > second) - (first < second);
}

static struct error *posix_timers_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskTimersEntry *timers = state->core->tc->timers;
	bool can_ids;

	(void)batch;
	if (!timers || timers->n_posix == 0)
		return NULL;
	TRY(restore_with_ids(state, &can_ids));
	/* Without the choice, ids only go up. */
	auto_free PosixTimerEntry **ascending = calloc(timers->n_posix, sizeof(PosixTimerEntry *));
	if (!ascending)
		return error_new(ENOMEM, "%zu POSIX timers", timers->n_posix);
	memcpy(ascending, timers->posix, timers->n_posix * sizeof(PosixTimerEntry *));
	qsort(ascending, timers->n_posix, sizeof(PosixTimerEntry *), compare_ids);
	for (size_t i = 0; i < timers->n_posix; i++)
		TRY(make(state, ascending[i], can_ids), "POSIX timer %u", ascending[i]->it_id);
	return can_ids ? end_ids(state) : NULL;
}

const struct state_ops posix_timers_ops = {
	.name = "POSIX timers",
	.scope = STATE_PROCESS,
	.check = posix_timers_check,
	.save = posix_timers_save,
	.restore = posix_timers_restore,
};
