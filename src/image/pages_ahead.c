/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "image/pages_ahead.h"
#include "util/alloc.h"

/* As many as stay in the processor's cache. */
enum { SLOTS = 3, SLOT_PAGES = PAGES_AHEAD_BYTES / PAGE_BYTES };

struct slot {
	struct pages_piece piece;
	uint8_t *buffer; /* owned */
};

/* Slots go round: the thread fills number "filled", its user has number "used". A slot belongs to one of the two at a
 * time, so its content needs no lock. */
struct pages_ahead {
	struct pages_reader *reader; /* borrowed; the thread's */
	pthread_t thread;
	struct slot slots[SLOTS];
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	size_t filled, used;
	bool is_over, is_cancelled;
	bool has_one;        /* its user has slot number "used" */
	struct error *error; /* owned */
};

/* ---- The thread ---- */

/* False: nobody wants more. */
static bool wait_for_room(struct pages_ahead *ahead)
{
	pthread_mutex_lock(&ahead->lock);
	while (ahead->filled - ahead->used == SLOTS && !ahead->is_cancelled)
		pthread_cond_wait(&ahead->changed, &ahead->lock);
	bool is_wanted = !ahead->is_cancelled;
	pthread_mutex_unlock(&ahead->lock);
	return is_wanted;
}

static void hand_over(struct pages_ahead *ahead)
{
	pthread_mutex_lock(&ahead->lock);
	ahead->filled++;
	pthread_cond_signal(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
}

static struct error *read_run(struct pages_ahead *ahead, const struct page_run *run)
{
	for (size_t done = 0; done < run->page_count;) {
		struct slot *slot = &ahead->slots[ahead->filled % SLOTS];
		size_t count = run->page_count - done;

		if (count > SLOT_PAGES)
			count = SLOT_PAGES;
		if (!wait_for_room(ahead))
			return NULL;
		TRY(pages_reader_read(ahead->reader, run, done, slot->buffer, count));
		slot->piece.address = run->address + (uint64_t)done * PAGE_BYTES;
		slot->piece.page_count = count;
		hand_over(ahead);
		done += count;
	}
	return NULL;
}

static void *read_all(void *data)
{
	struct pages_ahead *ahead = data;
	struct error *error = NULL;
	struct page_run run;

	while (!error && pages_reader_next(ahead->reader, &run))
		error = read_run(ahead, &run);
	pthread_mutex_lock(&ahead->lock);
	ahead->error = error;
	ahead->is_over = true;
	pthread_cond_signal(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
	return NULL;
}

/* ---- Its user ---- */

/* Signals are for the other threads. */
static int start_thread(struct pages_ahead *ahead)
{
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&ahead->thread, NULL, read_all, ahead);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void free_all(struct pages_ahead *ahead)
{
	for (size_t i = 0; i < SLOTS; i++)
		free(ahead->slots[i].buffer);
	pthread_mutex_destroy(&ahead->lock);
	pthread_cond_destroy(&ahead->changed);
	error_free(ahead->error);
	free(ahead);
}

struct error *pages_ahead_start(struct pages_reader *reader, struct pages_ahead **ret_ahead)
{
	struct pages_ahead *ahead = xalloc(sizeof(*ahead));

	ahead->reader = reader;
	pthread_mutex_init(&ahead->lock, NULL);
	pthread_cond_init(&ahead->changed, NULL);
	for (size_t i = 0; i < SLOTS; i++) {
		ahead->slots[i].buffer = xalloc(PAGES_AHEAD_BYTES);
		ahead->slots[i].piece.bytes = ahead->slots[i].buffer;
	}
	int r = start_thread(ahead);
	if (r != 0) {
		free_all(ahead);
		return error_new(r, "pthread_create");
	}
	*ret_ahead = ahead;
	return NULL;
}

void pages_ahead_free(struct pages_ahead *ahead)
{
	if (!ahead)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->is_cancelled = true;
	pthread_cond_signal(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
	pthread_join(ahead->thread, NULL);
	free_all(ahead);
}

/* The piece that was handed out before goes back with the call. */
struct error *pages_ahead_next(struct pages_ahead *ahead, struct pages_piece *ret_piece)
{
	struct error *error = NULL;

	*ret_piece = (struct pages_piece){0};
	pthread_mutex_lock(&ahead->lock);
	if (ahead->has_one) {
		ahead->used++;
		pthread_cond_signal(&ahead->changed);
	}
	while (ahead->filled == ahead->used && !ahead->is_over)
		pthread_cond_wait(&ahead->changed, &ahead->lock);
	ahead->has_one = ahead->filled != ahead->used;
	if (ahead->has_one)
		*ret_piece = ahead->slots[ahead->used % SLOTS].piece;
	else
		error = take(ahead->error);
	pthread_mutex_unlock(&ahead->lock);
	return error;
}
