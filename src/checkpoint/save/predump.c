/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Saving the memory of a process that runs on, for a dump to have less to save. It stands still for a moment only if
 * nobody keeps track of written pages yet. */

#include "checkpoint/page_files.h"
#include "checkpoint/save/chain.h"
#include "checkpoint/save/dump.h"
#include "checkpoint/save/first_look.h"
#include "checkpoint/save/freeze.h"
#include "checkpoint/save/save.h"
#include "task/keeper.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/test_stop.h"

struct predump {
	const struct dump_options *options;
	struct dump_statistics *statistics;
	struct keeper *keeper;    /* owned */
	struct saver *saver;      /* owned */
	struct tree_calls *calls; /* owned */
	struct chain *chain;      /* owned */
};

static void predump_free(struct predump *predump)
{
	chain_free(predump->chain);
	tree_calls_free(predump->calls);
	saver_free(predump->saver);
	keeper_stop(predump->keeper);
}

static struct error *track(struct predump *predump)
{
	auto_frozen struct frozen *frozen = NULL;
	struct dump_statistics *statistics = predump->statistics;
	uint64_t start_ns = clock_now_ns();
	enum obstacle unused; /* a child that has come is in nobody's way */

	const struct freeze_request request = {.live = saver_live(predump->saver), .calls = predump->calls};
	TRY(freeze(&request, &frozen, &unused));
	statistics->freezing_ns = clock_now_ns() - start_ns;
	test_stop("frozen");
	TRY(chain_track(predump->chain, frozen->processes[0]));
	test_stop("tracked");
	TRY(frozen_thaw(frozen));
	statistics->frozen_ns = clock_now_ns() - start_ns;
	return NULL;
}

static struct error *save(struct predump *predump)
{
	auto_page_files struct page_files files = {0};
	struct dump_statistics *statistics = predump->statistics;
	struct chain *chain = predump->chain;
	uint64_t start_ns = clock_now_ns();

	/* Not what shared memory holds: each dump has all of that. */
	page_files_begin(&files, predump->options->images_dir_fd, chain_parent(chain));
	TRY(page_files_select(&files, saver_own_pid(predump->saver)));
	TRY(chain_begin(chain));
	TRY(tracker_round(chain_tracker(chain), saver_areas(predump->saver, 0), &files.sink));
	statistics->memory_ns = clock_now_ns() - start_ns;
	test_stop("pages");
	TRY(page_files_finish(&files));
	statistics->write_ns = clock_now_ns() - start_ns - statistics->memory_ns;
	page_files_add_statistics(&files, statistics);
	TRY(chain_done(chain, false));
	page_files_keep(&files);
	return NULL;
}

struct error *predump_run(const struct dump_options *options, struct dump_statistics *ret_statistics)
{
	__attribute__((cleanup(predump_free))) struct predump predump = {
		.options = options,
		.statistics = ret_statistics,
		.calls = tree_calls_new(),
	};
	struct children_wait children = {
		.pid = options->pid,
		.is_single = true,
		.left_ns = options->wait_children_ns,
		.stop_fd = -1,
	};

	*ret_statistics = (struct dump_statistics){0};
	TRY(leftovers_clear(options->pid));
	TRY(keeper_start(&predump.keeper));
	TRY(leftovers_tell_keeper(predump.keeper, options->pid));
	/* What a dump would refuse is refused here, before anything is saved for it. A child that comes later is in nobody's way
	 * as long as only memory is saved. */
	TRY(first_look(&children, &options->carry, predump.calls, &predump.saver));
	TRY(chain_open(options->pid, options->images_dir_fd, options->parent_dir, &predump.chain));
	TRY(hooks_run(options->hooks, "pre-dump", options->pid, HOOK_NO_LIMIT_MS));
	if (!chain_tracker(predump.chain))
		TRY(track(&predump));
	log_line(options->log, LOG_PHASES, "written pages are told by %s", tracker_way(chain_tracker(predump.chain)));
	TRY(save(&predump));
	log_line(options->log, LOG_PHASES, "%llu pages are written, %llu are as in the parent",
	         (unsigned long long)ret_statistics->pages_written, (unsigned long long)ret_statistics->pages_kept);
	ret_statistics->warning = chain_take_warning(predump.chain);
	return NULL;
}
