/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Interval timers: getitimer(2). They go on with the time that was left.
 */
#include <string.h>
#include <sys/time.h>

#include "objects/state.h"
#include "util/alloc.h"

enum { TIMERS = 3 }; /* ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF are 0 to 2 */

struct answers {
	struct arg timers[TIMERS];
};

static void *itimer_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	for (uint64_t which = 0; which < TIMERS; which++) {
		answers->timers[which] = batch_space(batch, sizeof(struct itimerval));
		batch_call(batch, getitimer, val(which), answers->timers[which]);
	}
	return answers;
}

static ItimerEntry *entry_of(const struct batch *batch, struct arg answer)
{
	ItimerEntry *entry = xalloc(sizeof(*entry));
	struct itimerval timer;

	memcpy(&timer, batch_output(batch, answer), sizeof(timer));
	itimer_entry__init(entry);
	entry->isec = (uint64_t)timer.it_interval.tv_sec;
	entry->iusec = (uint64_t)timer.it_interval.tv_usec;
	entry->vsec = (uint64_t)timer.it_value.tv_sec;
	entry->vusec = (uint64_t)timer.it_value.tv_usec;
	return entry;
}

static struct error *itimer_save(const struct state_save *state, const void *collected, const void *asked,
                                 const struct batch *batch)
{
	const struct answers *answers = asked;
	TaskTimersEntry *timers = xalloc(sizeof(*timers));

	(void)collected;
	task_timers_entry__init(timers);
	timers->real = entry_of(batch, answers->timers[ITIMER_REAL]);
	timers->virt = entry_of(batch, answers->timers[ITIMER_VIRTUAL]);
	timers->prof = entry_of(batch, answers->timers[ITIMER_PROF]);
	state->core->tc->timers = timers;
	return NULL;
}

static void append_timer(struct batch *batch, uint64_t which, const ItimerEntry *entry)
{
	const struct itimerval timer = {
		.it_interval = {.tv_sec = (time_t)entry->isec, .tv_usec = (suseconds_t)entry->iusec},
		.it_value = {.tv_sec = (time_t)entry->vsec, .tv_usec = (suseconds_t)entry->vusec},
	};

	if (entry->vsec || entry->vusec)
		batch_call(batch, setitimer, val(which), batch_bytes(batch, &timer, sizeof(timer)), val(0));
}

static struct error *itimer_restore(const struct state_restore *state, struct batch *batch)
{
	const TaskTimersEntry *timers = state->core->tc->timers;

	if (!timers)
		return NULL;
	append_timer(batch, ITIMER_REAL, timers->real);
	append_timer(batch, ITIMER_VIRTUAL, timers->virt);
	append_timer(batch, ITIMER_PROF, timers->prof);
	return NULL;
}

const struct state_ops itimer_ops = {
	.name = "itimer",
	.scope = STATE_PROCESS,
	.ask = itimer_ask,
	.save = itimer_save,
	.restore = itimer_restore,
};
