/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "util/parallel.h"

enum {
	HELPERS_MAX = 7,
	WORTH = 32, /* things that take as long as to make a thread for them */
	PIECE = 8,  /* things that a thread takes at a time */
	STACK_BYTES = 256 << 10,
};

struct work {
	size_t count;
	void (*act)(void *context, size_t index);
	void *context;
	atomic_size_t next;
};

static void *take_part(void *context)
{
	struct work *work = context;

	for (;;) {
		size_t first = atomic_fetch_add(&work->next, PIECE);

		if (first >= work->count)
			return NULL;
		for (size_t i = first; i < first + PIECE && i < work->count; i++)
			work->act(work->context, i);
	}
}

/* Besides this thread. */
static size_t helper_count(size_t count)
{
	cpu_set_t usable;
	size_t processors = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? (size_t)CPU_COUNT(&usable) : 1;
	size_t helpers = count / WORTH;

	if (helpers > processors - 1)
		helpers = processors - 1;
	return helpers < HELPERS_MAX ? helpers : HELPERS_MAX;
}

/* Fewer than wanted are as good. */
static size_t start_helpers(struct work *work, size_t wanted, pthread_t *ret_helpers)
{
	pthread_attr_t attributes;
	sigset_t all;
	sigset_t former;
	size_t count = 0;

	if (wanted == 0 || pthread_attr_init(&attributes) != 0)
		return 0;
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	/* Signals are for the thread that waits for them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &former);
	while (count < wanted && pthread_create(&ret_helpers[count], &attributes, take_part, work) == 0)
		count++;
	pthread_sigmask(SIG_SETMASK, &former, NULL);
	pthread_attr_destroy(&attributes);
	return count;
}

void parallel_for(size_t count, void (*act)(void *context, size_t index), void *context)
{
	struct work work = {.count = count, .act = act, .context = context};
	pthread_t helpers[HELPERS_MAX];
	size_t started = start_helpers(&work, helper_count(count), helpers);

	take_part(&work);
	for (size_t i = 0; i < started; i++)
		pthread_join(helpers[i], NULL);
}
