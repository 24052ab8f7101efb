/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The source's side of a migration before the last freeze: drafts, and rounds of pages while the program runs. */
#include <errno.h>
#include <unistd.h>

#include "checkpoint/save/first_look.h"
#include "image/pages.h"
#include "memory/pages.h"
#include "migrate/frames.h"
#include "migrate/page_sending.h"
#include "migrate/signals.h"
#include "migrate/sourcing.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/test_stop.h"

void source_tell(struct source *source, const char *phase, bool is_step)
{
	source->progress.phase = phase;
	source->progress.is_step = is_step;
	source->progress.sent_bytes = source->channel ? channel_written(source->channel) : 0;
	if (source->options->watcher)
		source->options->watcher->progress(source->options->watcher, &source->progress);
}

/* ---- Before the rounds ---- */

struct error *source_thaw(struct source *source)
{
	saver_drop_copies(source->saver);
	TRY(frozen_thaw(source->frozen));
	frozen_free(take(source->frozen));
	return NULL;
}

static struct error *look_while_frozen(void *context, const struct live_tree **ret_live)
{
	struct source *source = context;

	source->is_stale = true;
	TRY(first_look_held(source->saver));
	*ret_live = saver_live(source->saver);
	return NULL;
}

/* A tree that changes all the time is looked at while it stands still, when it was given some time not to. */
struct error *source_freeze(struct source *source, int tries, enum obstacle *ret_obstacle)
{
	const struct relook relook = {.look = look_while_frozen, .context = source};
	const struct freeze_request request = {
		.live = saver_live(source->saver),
		.calls = source->calls,
		.room_bytes = saver_room_bytes(source->saver),
		.relook = tries >= TRIES_UNHELD ? &relook : NULL,
	};

	return freeze(&request, &source->frozen, ret_obstacle);
}

/* *ret_store stays NULL where something is in the way that passes. */
static struct error *save_draft(struct source *source, int tries, struct image_store **ret_store)
{
	auto_image_store struct image_store *store = image_store_new();
	bool is_last_try = tries == FREEZE_TRIES - 1;
	enum obstacle obstacle;

	TRY(source_freeze(source, tries, &obstacle));
	if (obstacle == OBSTACLE_NONE)
		TRY(obstacle_from(saver_save(source->saver, source->frozen, store), is_last_try, &obstacle));
	if (obstacle == OBSTACLE_NONE) {
		*ret_store = take(store);
		return NULL;
	}
	TRY(source_thaw(source));
	obstacle_log(obstacle, source->options->log);
	if (obstacle == OBSTACLE_PROCESSES && is_last_try)
		return obstacle_error(obstacle, source->options->pid);
	if (obstacle == OBSTACLE_PROCESSES)
		return first_look_again(&source->children, source->calls, source->saver);
	usleep(BETWEEN_TRIES_US);
	return NULL;
}

struct error *source_begin_with(struct source *source, const struct image_store *draft, int timeout_ms)
{
	auto_free char *new_ones = NULL;

	source->is_stale = false;
	TRY(frame_send_store(source->channel, draft));
	TRY(frame_send(source->channel, FRAME_BEGIN, NULL, 0));
	TRY(frame_receive_answer(source->channel, timeout_ms, &new_ones));
	memory_sending_begin_anew(source->memory, new_ones);
	return NULL;
}

struct error *source_send_draft(struct source *source)
{
	auto_image_store struct image_store *store = NULL;

	for (int tries = 0; !store; tries++)
		TRY(save_draft(source, tries, &store));
	TRY(memory_sending_track(source->memory, source->saver, source->frozen));
	TRY(source_thaw(source));
	memory_sending_sweep(source->memory, source->saver);
	source->statistics->tracked_by = memory_sending_way(source->memory);
	source->is_drafted_anew = true;
	return source_begin_with(source, store, CHANNEL_PATIENCE_MS);
}

/* The processes are others than in the last draft. */
static struct error *send_draft_again(struct source *source)
{
	TRY(first_look_again(&source->children, source->calls, source->saver));
	return source_send_draft(source);
}

struct error *source_follow_processes(struct source *source)
{
	return source->is_stale || !live_tree_is_current(saver_live(source->saver)) ? send_draft_again(source) : NULL;
}

/* ---- Pages ---- */

static void tell_sending(void *context, const struct page_sending *sending)
{
	struct source *source = context;
	const struct migrate_progress round = source->progress;

	source->progress.round++;
	source->progress.left_pages = sending->left_pages;
	source->progress.bytes_per_second = page_sending_rate(sending);
	source->progress.predicted_pause_ns = 0;
	source_tell(source, "rounds", false);
	source->progress = round;
}

static uint64_t pages_of_all(const struct saver *saver)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < saver_count(saver); i++)
		if (saver_owns_memory(saver, i))
			pages += pages_in_memory(saver_live(saver)->list[i].pid);
	return pages;
}

struct error *source_send_round(struct source *source)
{
	struct page_sending sending = page_sending_begin(source->channel, 0);

	sending.tell = tell_sending;
	sending.context = source;
	sending.left_pages = source->progress.round ? source->progress.left_pages : pages_of_all(source->saver);
	test_stop("round");
	TRY(memory_sending_round(source->memory, source->saver, &sending, &source->is_stale));
	TRY(saver_sync(source->saver));
	saver_drop_copies(source->saver);
	TRY(frame_send(source->channel, FRAME_ROUND, NULL, 0));
	TRY(frame_receive_answer(source->channel, CHANNEL_PATIENCE_MS, NULL));
	pace_round(&source->pace, page_sending_bytes(&sending), clock_now_ns() - sending.start_ns);
	source->progress.bytes_per_second = source->pace.bytes_per_second;
	source->progress.round++;
	source->statistics->rounds++;
	source->is_drafted_anew = false;
	return NULL;
}

struct error *source_send_nothing(struct source *source)
{
	TRY(frame_send(source->channel, FRAME_ROUND, NULL, 0));
	return frame_receive_answer(source->channel, CHANNEL_PATIENCE_MS, NULL);
}

static struct error *predict(struct source *source)
{
	struct migrate_progress *progress = &source->progress;

	TRY(memory_sending_count(source->memory, source->saver, &progress->left_pages));
	pace_predict(&source->pace, progress->left_pages * PAGE_BYTES);
	progress->predicted_pause_ns = source->pace.predicted_ns;
	return NULL;
}

static void log_round(struct source *source)
{
	const struct migrate_progress *progress = &source->progress;

	log_line(source->options->log, LOG_PHASES,
	         "round %u: %.1f MB sent so far, %.1f MB/s, %llu pages left, predicted pause %.1f ms", progress->round,
	         (double)progress->sent_bytes / 1e6, (double)progress->bytes_per_second / 1e6,
	         (unsigned long long)progress->left_pages, (double)progress->predicted_pause_ns / 1e6);
}

struct error *source_send_rounds(struct source *source)
{
	const struct pace_limits *limits = &source->options->limits;

	while (memory_sending_way(source->memory) && pace_wants_round(&source->pace, limits)) {
		TRY(signals_check());
		TRY(source_follow_processes(source));
		TRY(source_send_round(source));
		TRY(predict(source));
		source_tell(source, "rounds", true);
		log_round(source);
	}
	return pace_check(&source->pace, limits);
}
