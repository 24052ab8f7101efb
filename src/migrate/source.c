/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/clocks.h"
#include "checkpoint/needs.h"
#include "checkpoint/save/first_look.h"
#include "checkpoint/save/save_log.h"
#include "checkpoint/save/supervisor.h"
#include "checkpoint/sysv_leave.h"
#include "migrate/frames.h"
#include "migrate/identity.h"
#include "migrate/page_sending.h"
#include "migrate/signals.h"
#include "migrate/sourcing.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/test_stop.h"

enum {
	DRAIN_NS = 3 * 1000 * 1000,
	SILENCE_NS = 2000 * 1000 * 1000, /* at most, to the other side, whose patience has an end */
};

/* The program goes on before what costs time is taken down. */
static void source_free(struct source *source)
{
	if (!source->is_committed)
		moving_put_back(source->moving);
	connections_free(source->connections);
	/* Not known yet where it runs: it stands still, without us. */
	if (source->is_committed && source->frozen)
		frozen_abandon(source->frozen);
	frozen_free(source->frozen);
	tree_calls_free(source->calls);
	memory_sending_free(source->memory);
	saver_free(source->saver);
	if (source->journal && !source->is_committed)
		journal_remove(source->journal);
	journal_free(source->journal);
	moving_free(source->moving);
	channel_free(source->channel);
	keeper_stop(source->keeper);
	if (source->signals_fd >= 0)
		close(source->signals_fd);
}

/* ---- Hello ---- */

/* At once: the destination adds the time between its answer and this. */
static struct error *send_clocks(const struct source *source)
{
	GodwitClocksEntry entry;

	TRY(clocks_fill(source->options->pid, &entry));
	struct error *error = frame_send_message(source->channel, FRAME_CLOCKS, &entry.base);
	free(entry.boot);
	return error;
}

static struct error *hello(struct source *source)
{
	const struct migrate_options *options = source->options;
	GodwitHello hello = GODWIT_HELLO__INIT;

	hello.version = MIGRATE_VERSION;
	hello.release = (char *)(uintptr_t)identity_release();
	hello.migration = source->record.migration;
	hello.tcp_established = options->carry.tcp_established;
	hello.shell_job = options->carry.shell_job;
	hello.ghost_limit_bytes = options->carry.ghost_limit_bytes;
	hello.has_new_pids = true;
	hello.new_pids = options->new_pids;
	hello.n_addresses = options->address_count;
	hello.addresses = (char **)(uintptr_t)options->addresses;
	TRY(frame_send_message(source->channel, FRAME_HELLO, &hello.base));
	TRY(frame_receive_answer(source->channel, CHANNEL_PATIENCE_MS, NULL));
	return send_clocks(source);
}

/* What the destination lacks: nothing has been stopped yet. */
static struct error *ask_needs(struct source *source)
{
	const struct migrate_options *options = source->options;
	auto_image_store struct image_store *sketch = image_store_new();
	auto_needs GodwitNeeds *needs = NULL;
	const struct needs_request request = {
		.pid = options->pid,
		.saver = source->saver,
		.is_shell_job = options->carry.shell_job,
		.new_pids = options->new_pids,
		.cpu_caps = options->cpu_caps,
		.arriving = options->addresses,
		.arriving_count = options->address_count,
	};

	TRY(needs_read(&request, &needs));
	saver_sketch(source->saver, sketch);
	saver_drop_copies(source->saver);
	TRY(frame_send_store(source->channel, sketch));
	TRY(frame_send_message(source->channel, FRAME_NEEDS, &needs->base));
	return frame_receive_answer(source->channel, CHANNEL_PATIENCE_MS, NULL);
}

/* ---- The freeze ---- */

/* Measures a step of the freeze. */
static void lap(uint64_t *ret_step_ns, uint64_t *last_ns)
{
	uint64_t now_ns = clock_now_ns();

	*ret_step_ns = now_ns - *last_ns;
	*last_ns = now_ns;
}

static int freeze_time_left_ms(const struct source *source)
{
	uint64_t passed_ms = (clock_now_ns() - source->frozen_ns) / 1000000;

	return passed_ms < source->options->limits.max_freeze_ms
	               ? (int)(source->options->limits.max_freeze_ms - passed_ms)
	               : 0;
}

/* By a script, where somebody asked for that. */
static struct error *lock_network(struct source *source)
{
	const struct migrate_options *options = source->options;

	source->is_network_locked = true;
	return hooks_run_network(options->hooks, "network-lock", options->pid, freeze_time_left_ms(source));
}

/* The program goes on here. */
static struct error *unlock_network(struct source *source)
{
	if (!source->is_network_locked)
		return NULL;
	source->is_network_locked = false;
	return hooks_run_network(source->options->hooks, "network-unlock", source->options->pid, HOOK_LIMIT_MS);
}

/* The processes that have come since the draft, and are still there, are made while all stand still. */
static struct error *begin_frozen(struct source *source, bool is_last_try, enum obstacle *ret_obstacle)
{
	auto_image_store struct image_store *draft = image_store_new();

	if (!source->is_stale)
		return NULL;
	TRY(obstacle_from(saver_save(source->saver, source->frozen, draft), is_last_try, ret_obstacle));
	return *ret_obstacle == OBSTACLE_NONE ? source_begin_with(source, draft, freeze_time_left_ms(source)) : NULL;
}

/* If nothing is in the way. */
static struct error *freeze_and_send(struct source *source, struct image_store *store, int tries,
                                     enum obstacle *ret_obstacle)
{
	bool is_last_try = tries == FREEZE_TRIES - 1;
	struct migrate_statistics *statistics = source->statistics;
	struct page_sending sending = page_sending_begin(source->channel, 0);
	struct unsent left;
	uint64_t last_ns;

	TRY(source_freeze(source, tries, ret_obstacle));
	last_ns = source->frozen->began_ns;
	source->frozen_ns = last_ns;
	channel_set_deadline(source->channel, last_ns + (uint64_t)source->options->limits.max_freeze_ms * 1000000);
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	lap(&statistics->stop_ns, &last_ns);
	test_stop("frozen");
	TRY(begin_frozen(source, is_last_try, ret_obstacle));
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	TRY(memory_sending_areas(source->memory, source->saver, source->frozen, source->channel));
	lap(&statistics->areas_ns, &last_ns);
	TRY(memory_sending_last(source->memory, source->saver, source->frozen, &sending));
	lap(&statistics->pages_ns, &last_ns);
	TRY(obstacle_from(saver_save(source->saver, source->frozen, store), is_last_try, ret_obstacle));
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	lap(&statistics->state_ns, &last_ns);
	TRY(connections_drain(source->connections, DRAIN_NS, &left));
	*ret_obstacle = left.connections > 0 ? OBSTACLE_CONNECTIONS : OBSTACLE_NONE;
	if (*ret_obstacle == OBSTACLE_NONE) {
		TRY(lock_network(source));
		/* If we die, it must not go on before its connections do: the keeper sees to both. */
		TRY(frozen_set_stay(source->frozen, true));
		TRY(connections_save(source->connections, store));
	}
	lap(&statistics->connections_ns, &last_ns);
	return NULL;
}

static struct error *complete(struct source *source, const struct image_store *store)
{
	uint64_t start_ns = clock_now_ns();

	TRY(frame_send_store(source->channel, store));
	TRY(frame_send(source->channel, FRAME_COMPLETE, NULL, 0));
	TRY(frame_receive_answer(source->channel, freeze_time_left_ms(source), NULL));
	source->statistics->ready_ns = clock_now_ns() - start_ns;
	return NULL;
}

static struct error *try_last_round(struct source *source, int tries, enum obstacle *ret_obstacle)
{
	auto_image_store struct image_store *store = image_store_new();

	TRY(freeze_and_send(source, store, tries, ret_obstacle));
	if (*ret_obstacle == OBSTACLE_NONE)
		return complete(source, store);
	TRY(source_thaw(source));
	channel_set_deadline(source->channel, 0);
	/* The destination has no answer to give yet: it waits for the rest. */
	return NULL;
}

/* A round afterwards makes up for what was written meanwhile. */
static struct error *wait_for_children(struct source *source)
{
	struct children_wait *children = &source->children;

	while (children->left_ns > 0 && children_are_there(children->pid)) {
		struct children_wait now = *children;

		source_tell(source, "wait for children", true);
		if (now.left_ns > SILENCE_NS)
			now.left_ns = SILENCE_NS;
		children->left_ns -= now.left_ns;
		(void)children_wait(&now);
		children->left_ns += now.left_ns;
		TRY(signals_check());
		TRY(memory_sending_way(source->memory) ? source_send_round(source) : source_send_nothing(source));
	}
	return NULL;
}

/* Where it is the user's limit that has ended it. */
static struct error *name_limit(struct source *source, struct error *error)
{
	if (!error || error_errnum(error) != ETIMEDOUT || !source->frozen || freeze_time_left_ms(source) > 0)
		return error;
	return error_hint(error_wrap(error, "it has stood still for %u ms, for as long as it may",
	                             source->options->limits.max_freeze_ms),
	                  "--max-freeze MS lets it stand still for longer");
}

/* What has come since goes over while it runs. */
static struct error *catch_up(struct source *source)
{
	TRY(source_follow_processes(source));
	return source->is_drafted_anew && memory_sending_way(source->memory) ? source_send_round(source) : NULL;
}

static struct error *last_round(struct source *source)
{
	enum obstacle obstacle = OBSTACLE_NONE;

	for (int tries = 0; tries < FREEZE_TRIES;) {
		TRY(wait_for_children(source));
		TRY(signals_check());
		TRY(catch_up(source));
		TRY(name_limit(source, try_last_round(source, tries, &obstacle)));
		if (obstacle == OBSTACLE_NONE)
			return NULL;
		obstacle_log(obstacle, source->options->log);
		/* Where there is time to wait for the end of children, that is no try. */
		tries += obstacle != OBSTACLE_PROCESSES || !children_again(&source->children);
		if (obstacle != OBSTACLE_PROCESSES)
			usleep(BETWEEN_TRIES_US);
	}
	return obstacle_error(obstacle, source->options->pid);
}

/* ---- The handoff ---- */

/* As if nothing had been committed: the destination doesn't run it, and never will. */
static struct error *step_back(struct source *source)
{
	source->is_committed = false;
	moving_put_back(source->moving);
	struct error *error = connections_go_on(source->connections);

	return error_join(error, frozen_set_stay(source->frozen, false));
}

/*
 * Standing still has to outlive us from here on. Until the record says so all of it is undone, by us or the keeper; then
 * our death means something else, and only then the address goes and GO may be said.
 */
static struct error *stand_still(struct source *source)
{
	TRY(frozen_set_stay(source->frozen, true));
	test_stop("staying");
	TRY(connections_keep_locked(source->connections, &source->holder));
	test_stop("kept");
	source->record.state = JOURNAL_COMMITTED;
	TRY(journal_write(source->journal, &source->record));
	test_stop("committed");
	TRY(keeper_commit(source->keeper, &source->undo));
	connections_stay(source->connections);
	source->is_committed = true;
	TRY(moving_remove(source->moving));
	test_stop("moved");
	return NULL;
}

static struct error *commit(struct source *source)
{
	uint64_t start_ns = clock_now_ns();

	TRY(signals_check());
	channel_watch(source->channel, -1);
	channel_set_deadline(source->channel, 0);
	struct error *error = stand_still(source);
	source->statistics->commit_ns = clock_now_ns() - start_ns;
	return error ? error_join(error, step_back(source)) : NULL;
}

static void tell_waiting(const struct asking *asking, const struct error *last, unsigned next_s)
{
	struct migrate_watcher *watcher = asking->context;

	if (watcher)
		watcher->waiting(watcher, last, next_s);
}

/* The link was cut behind GO: asks over a new one, which takes the place of the old one. */
static struct error *settle(struct source *source, bool *ret_is_going)
{
	const struct asking asking = {
		.route = &source->options->route,
		.migration = source->record.migration,
		.tell = tell_waiting,
		.context = source->options->watcher,
	};

	source_tell(source, "settle", true);
	channel_free(take(source->channel));
	TRY(settle_keep_asking(&asking, &source->channel, ret_is_going));
	return NULL;
}

static struct error *end_here(struct source *source)
{
	sysv_leave(source->options->pid);
	TRY(frozen_end(source->frozen, source->options->exit_status));
	test_stop("ended");
	return kept_lock_remove(&source->holder);
}

static struct error *hand_over(struct source *source, enum migrate_outcome *ret_outcome)
{
	uint64_t start_ns = clock_now_ns();
	bool is_going = true;
	struct error *error = frame_send(source->channel, FRAME_GO, NULL, 0);

	test_stop("go");
	if (!error)
		error = frame_receive_runs(source->channel, CHANNEL_PATIENCE_MS, &source->statistics->pid_there);
	test_stop("answered");
	source->statistics->go_ns = clock_now_ns() - start_ns;
	source->statistics->pause_ns = clock_now_ns() - source->frozen_ns;
	*ret_outcome = MIGRATE_UNDECIDED;
	if (error) {
		error_free(error);
		TRY(settle(source, &is_going), "the connection broke while the program was handed over");
	}
	if (!is_going) {
		*ret_outcome = MIGRATE_RUNS_HERE;
		TRY(step_back(source));
		return error_new(ECONNRESET,
		                 "the connection broke while the program was handed over, and it was taken back");
	}
	*ret_outcome = MIGRATE_RUNS_THERE;
	/* Before the copy ends, or it would be started again. */
	source->statistics->warning = supervisor_stop(source->options->stop_unit);
	TRY(end_here(source), "the program runs at the destination, but its copy here could not be ended");
	const struct asking asking = {.route = &source->options->route, .migration = source->record.migration};
	settle_done(&asking, source->channel);
	test_stop("done");
	journal_remove(source->journal);
	return NULL;
}

/* ---- All of it ---- */

/* Before there is a record: what has none is nothing to the keeper. */
static struct error *tell_keeper(struct source *source)
{
	uint32_t id;

	TRY(settle_undo(source->options->state_dir, &source->record, &source->keep, &source->undo));
	return keeper_add(source->keeper, &source->undo, &id);
}

static struct error *open_journal(struct source *source)
{
	const struct migrate_options *options = source->options;
	auto_free uint8_t *addresses = NULL;
	size_t addresses_bytes;

	source->record = (struct journal_record){
		.is_source = true,
		.pid = options->pid,
		.began_s = time(NULL),
		.exit_status = options->exit_status,
	};
	TRY(journal_new_migration(source->record.migration));
	TRY(journal_set_program(&source->record));
	TRY(journal_set_route(&source->record, &options->route));
	source->holder = (struct lock_holder){.pid = options->pid, .start_time = source->record.start_time};
	moving_bytes(source->moving, &addresses, &addresses_bytes);
	TRY(tell_keeper(source));
	return journal_create(options->state_dir, &source->record, addresses, addresses_bytes, &source->journal);
}

static struct error *connect_and_greet(struct source *source)
{
	source_tell(source, "connect", true);
	TRY(route_connect(&source->options->route, &source->channel));
	channel_watch(source->channel, source->signals_fd);
	TRY(channel_explain(source->channel, frame_reason(source->channel, hello(source))));
	test_stop("greeted");
	return NULL;
}

static struct error *prepare(struct source *source)
{
	const struct migrate_options *options = source->options;
	uint64_t start_ns = clock_now_ns();

	source_tell(source, "check", true);
	TRY(signals_watch(&source->signals_fd));
	source->children.stop_fd = source->signals_fd;
	source->memory = memory_sending_new(options->limits.max_rounds > 0, options->track);
	TRY(leftovers_clear(options->pid));
	TRY(keeper_start(&source->keeper));
	TRY(leftovers_tell_keeper(source->keeper, options->pid));
	TRY(first_look(&source->children, &options->carry, source->calls, &source->saver));
	TRY(moving_new(options->addresses, options->address_count, &source->moving));
	TRY(open_journal(source));
	test_stop("begun");
	TRY(connect_and_greet(source));
	TRY(ask_needs(source));
	save_log(options->log, source->saver);
	TRY(hooks_run(options->hooks, "pre-dump", options->pid, HOOK_LIMIT_MS));
	TRY(connections_new(source->saver, source->keeper, &source->connections));
	source_tell(source, "prepare", true);
	TRY(source_send_draft(source));
	test_stop("prepared");
	source->statistics->check_ns = clock_now_ns() - start_ns;
	return NULL;
}

static struct error *run(struct source *source, enum migrate_outcome *ret_outcome)
{
	uint64_t start_ns;

	TRY(prepare(source));
	start_ns = clock_now_ns();
	TRY(source_send_rounds(source));
	source->statistics->rounds_ns = clock_now_ns() - start_ns;
	TRY(last_round(source));
	TRY(hooks_run(source->options->hooks, "post-dump", source->options->pid, freeze_time_left_ms(source)));
	test_stop("ready");
	TRY(commit(source));
	source->statistics->sent_bytes = channel_written(source->channel);
	TRY(hand_over(source, ret_outcome));
	log_line(source->options->log, LOG_PHASES, "handed over, after a pause of %.3f ms",
	         (double)source->statistics->pause_ns / 1e6);
	return connections_dropped(source->connections, &source->statistics->dropped_packets);
}

struct error *migrate_run(const struct migrate_options *options, enum migrate_outcome *ret_outcome,
                          struct migrate_statistics *ret_statistics)
{
	__attribute__((cleanup(source_free))) struct source source = {
		.options = options,
		.statistics = ret_statistics,
		.children = {.pid = options->pid, .left_ns = options->wait_children_ns, .stop_fd = -1},
		.signals_fd = -1,
		.calls = tree_calls_new(),
	};

	*ret_outcome = MIGRATE_RUNS_HERE;
	*ret_statistics = (struct migrate_statistics){0};
	struct error *error = run(&source, ret_outcome);
	if (!error || *ret_outcome != MIGRATE_RUNS_HERE)
		return error;
	if (source.channel)
		error = frame_reason(source.channel, error);
	return error_join(error, unlock_network(&source));
}
