/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/connections.h"
#include "checkpoint/page_files.h"
#include "checkpoint/save/chain.h"
#include "checkpoint/save/dump.h"
#include "checkpoint/save/first_look.h"
#include "checkpoint/save/freeze.h"
#include "checkpoint/save/save.h"
#include "checkpoint/save/save_log.h"
#include "memory/shared_send.h"
#include "task/keeper.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum {
	FREEZE_TRIES = 50,
	BETWEEN_TRIES_US = 2000,
	DRAIN_NS = 3 * 1000 * 1000,
};

struct dump {
	const struct dump_options *options;
	struct keeper *keeper; /* owned */
	struct chain *chain;   /* owned; NULL: no part of one */
	struct saver *saver;   /* owned */
	struct children_wait children;
	struct calls *calls;             /* owned */
	struct connections *connections; /* owned */
	struct frozen *frozen;           /* owned */
	struct image_store *store;       /* owned */
	struct page_files pages;
	struct dump_statistics *statistics;
	uint64_t start_ns;      /* of the freeze */
	bool is_network_locked; /* by a script */
};

/* Connections go on before the program does. */
static void dump_free(struct dump *dump)
{
	connections_free(dump->connections);
	frozen_free(dump->frozen);
	chain_free(dump->chain);
	calls_free(dump->calls);
	saver_free(dump->saver);
	image_store_free(dump->store);
	page_files_free(&dump->pages);
	keeper_stop(dump->keeper);
}

/* Where written pages are to be told to the next dump, and nobody tells them yet, that begins here. */
static struct error *send_own_pages(struct dump *dump, struct page_sink *sink)
{
	struct process *process = dump->frozen->process;
	const struct areas *areas = saver_areas(dump->saver);

	if (dump->chain && chain_tracker(dump->chain))
		return tracker_finish(chain_tracker(dump->chain), areas, sink);
	if (!dump->chain || !dump->options->tracks_memory || dump->options->end == DUMP_KILL)
		return pages_send(process, areas, sink);
	TRY(chain_track(dump->chain, process));
	return tracker_round_held(chain_tracker(dump->chain), areas, sink);
}

static struct error *send_pages(struct dump *dump, struct page_sink *sink)
{
	auto_shared_sender struct shared_sender *shared = shared_sender_new();
	auto_shared_objects struct shared_objects objects = {0};

	TRY(send_own_pages(dump, sink));
	TRY(saver_shared(dump->saver, &objects));
	return shared_sender_send(shared, &objects, NULL, true, sink);
}

static struct error *write_pages(struct dump *dump)
{
	uint64_t start_ns = clock_now_ns();

	TRY(send_pages(dump, &dump->pages.sink));
	dump->statistics->memory_ns = clock_now_ns() - start_ns;
	page_files_add_statistics(&dump->pages, dump->statistics);
	return NULL;
}

/* From here on the images survive a crash of the machine. */
static struct error *finish_images(struct dump *dump)
{
	uint64_t start_ns = clock_now_ns();

	TRY(page_files_finish(&dump->pages));
	dump->statistics->write_ns = clock_now_ns() - start_ns;
	TRY(image_store_write(dump->store, dump->options->images_dir_fd));
	page_files_keep(&dump->pages);
	return NULL;
}

/* ---- The freeze ---- */

/* Freezes, and saves all but pages and connections, if nothing is in the way. */
static struct error *try_freeze(struct dump *dump, bool is_last_try, enum obstacle *ret_obstacle)
{
	struct unsent left;
	bool has_children;

	TRY(freeze(dump->options->pid, dump->calls, saver_room_bytes(dump->saver), &dump->frozen));
	dump->start_ns = dump->frozen->began_ns;
	dump->statistics->freezing_ns = clock_now_ns() - dump->start_ns;
	dump->store = image_store_new();
	*ret_obstacle = OBSTACLE_CHILDREN;
	TRY(children_ask(dump->frozen->process, &has_children));
	if (has_children)
		return NULL;
	TRY(obstacle_from(saver_save(dump->saver, dump->frozen->process, dump->store), is_last_try, ret_obstacle));
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	TRY(connections_drain(dump->connections, DRAIN_NS, &left));
	*ret_obstacle = left.connections > 0 ? OBSTACLE_CONNECTIONS : OBSTACLE_NONE;
	return NULL;
}

static struct error *freeze_and_save(struct dump *dump)
{
	enum obstacle obstacle = OBSTACLE_NONE;

	for (int tries = 0; tries < FREEZE_TRIES; tries += obstacle != OBSTACLE_CHILDREN) {
		TRY(try_freeze(dump, tries == FREEZE_TRIES - 1, &obstacle));
		if (obstacle == OBSTACLE_NONE)
			return NULL;
		saver_drop_copies(dump->saver);
		TRY(frozen_thaw(dump->frozen));
		frozen_free(take(dump->frozen));
		image_store_free(take(dump->store));
		obstacle_log(obstacle, dump->options->log);
		if (obstacle == OBSTACLE_CHILDREN && !children_again(&dump->children))
			break;
		if (!children_wait(&dump->children))
			usleep(BETWEEN_TRIES_US);
	}
	return obstacle_error(obstacle, dump->options->pid);
}

/* ---- The end ---- */

/* Whose name the lock has that stays: one that is ended by us needs it until it is restored. */
static struct error *holder_of(const struct dump *dump, struct lock_holder *ret_holder)
{
	*ret_holder = (struct lock_holder){.pid = dump->options->pid};
	if (dump->options->end != DUMP_LEAVE_STOPPED)
		return NULL;
	int r = procfs_start_time(ret_holder->pid, &ret_holder->start_time);
	return r < 0 ? error_new(-r, "start time of process %d", ret_holder->pid) : NULL;
}

/* In the keeper: the end had begun, and nothing else may follow. */
static void undo_mercy(const void *bytes, const int *fds, size_t fd_count)
{
	(void)bytes;
	(void)fd_count;
	syscall(SYS_pidfd_send_signal, fds[0], SIGKILL, NULL, 0);
}

/* In the keeper: it was stopped for good too early. */
static void undo_stop(const void *bytes, const int *fds, size_t fd_count)
{
	(void)bytes;
	(void)fd_count;
	syscall(SYS_pidfd_send_signal, fds[0], SIGCONT, NULL, 0);
}

/* In the keeper, last: its connections go on by now, and it has been continued. */
static void undo_stay(const void *bytes, const int *fds, size_t fd_count)
{
	pid_t pid;

	(void)fds;
	(void)fd_count;
	memcpy(&pid, bytes, sizeof(pid));
	error_free(leftovers_release(pid));
}

static struct error *tell_keeper_of_stay(const struct dump *dump)
{
	const struct keeper_undo undo = {
		.undo = undo_stay,
		.bytes = &dump->options->pid,
		.size_bytes = sizeof(dump->options->pid),
	};
	uint32_t id;

	return keeper_add(dump->keeper, &undo, &id);
}

/* Registered early, and so done late: the connections come before it. One that was stopped before stays so. */
static struct error *tell_keeper_of_stop(const struct dump *dump)
{
	auto_free char *status = NULL;
	auto_fd int pidfd = procfs_open_pid(dump->options->pid);
	const struct keeper_undo undo = {.undo = undo_stop, .fds = &pidfd, .fd_count = 1};
	uint32_t id;

	if (dump->options->end != DUMP_LEAVE_STOPPED)
		return NULL;
	int r = pidfd < 0 ? pidfd : procfs_read(dump->options->pid, "status", &status, NULL);
	if (r < 0)
		return error_new(-r, "process %d", dump->options->pid);
	return strstr(status, "\nState:\tT") ? NULL : keeper_add(dump->keeper, &undo, &id);
}

/* All is written: from here on the program doesn't go on by itself, whatever becomes of us. */
static struct error *commit_to_kill(struct dump *dump)
{
	const struct keeper_undo undo = {
		.undo = undo_mercy,
		.fds = &dump->frozen->process->pidfd,
		.fd_count = 1,
	};

	TRY(keeper_commit(dump->keeper, &undo));
	connections_stay(dump->connections);
	return NULL;
}

static struct error *end(struct dump *dump, enum dump_outcome *ret_outcome)
{
	struct lock_holder holder;

	if (dump->options->end == DUMP_LEAVE_RUNNING) {
		TRY(connections_go_on(dump->connections));
		return frozen_thaw(dump->frozen);
	}
	TRY(holder_of(dump, &holder));
	TRY(connections_keep_locked(dump->connections, &holder));
	test_stop("kept");
	if (dump->options->end == DUMP_LEAVE_STOPPED) {
		TRY(frozen_leave_stopped(dump->frozen));
		test_stop("left");
		*ret_outcome = DUMP_STOPPED;
		connections_stay(dump->connections);
		return keeper_commit(dump->keeper, NULL);
	}
	TRY(commit_to_kill(dump));
	test_stop("committed");
	/* Without its own help: it is parked, so nothing of it runs any more. */
	TRY(process_end(dump->frozen->process));
	process_free(take(dump->frozen->process));
	*ret_outcome = DUMP_ENDED;
	return NULL;
}

/* For the script that was asked to lock it. */
static struct error *unlock_network(struct dump *dump)
{
	if (!dump->is_network_locked)
		return NULL;
	dump->is_network_locked = false;
	return hooks_run_network(dump->options->hooks, "network-unlock", dump->options->pid, HOOK_NO_LIMIT_MS);
}

/* A script that wants to see the images wants to see all of them; else they can wait for the thaw. */
static bool is_written_late(const struct dump *dump)
{
	return dump->options->end == DUMP_LEAVE_RUNNING && !dump->options->hooks;
}

/* What is written late waits in memory, as far as there is room: files are slow. */
static struct error *open_page_files(struct dump *dump)
{
	static const uint64_t waiting_bytes_max = 16 << 20;
	static const uint64_t more_bytes = 256 << 10; /* the vDSO, and what it touches until the freeze */
	const struct dump_options *options = dump->options;
	const struct ranges *parent = dump->chain ? chain_parent(dump->chain) : NULL;
	uint64_t bytes = pages_in_memory(options->pid) * PAGE_BYTES + more_bytes;

	TRY(page_files_open(options->images_dir_fd, saver_own_pid(dump->saver), parent, &dump->pages));
	if (is_written_late(dump))
		page_files_gather(&dump->pages, bytes < waiting_bytes_max ? bytes : waiting_bytes_max);
	return NULL;
}

static struct error *save(struct dump *dump, enum dump_outcome *ret_outcome)
{
	const struct dump_options *options = dump->options;

	TRY(freeze_and_save(dump));
	test_stop("frozen");
	log_line(options->log, LOG_PHASES, "frozen; all is saved but pages and connections");
	dump->is_network_locked = true;
	TRY(hooks_run_network(options->hooks, "network-lock", options->pid, HOOK_NO_LIMIT_MS));
	/* If we die, it must not go on before its connections do: the keeper sees to both. */
	TRY(process_set_stay(dump->frozen->process, true));
	TRY(connections_save(dump->connections, dump->store));
	TRY(write_pages(dump));
	test_stop("pages");
	log_line(options->log, LOG_PHASES, "%llu pages are written",
	         (unsigned long long)dump->statistics->pages_written);
	if (!is_written_late(dump))
		TRY(finish_images(dump));
	test_stop("images");
	TRY(hooks_run(options->hooks, "post-dump", options->pid, HOOK_NO_LIMIT_MS));
	if (options->end == DUMP_LEAVE_RUNNING)
		TRY(unlock_network(dump));
	TRY(end(dump, ret_outcome));
	dump->statistics->frozen_ns = clock_now_ns() - dump->start_ns;
	log_line(options->log, LOG_PHASES, "frozen no longer, after %.3f ms",
	         (double)dump->statistics->frozen_ns / 1e6);
	if (is_written_late(dump))
		TRY(finish_images(dump));
	return dump->chain ? chain_done(dump->chain, *ret_outcome == DUMP_ENDED) : NULL;
}

/* Whether it is a part of a chain, and of what it is. */
static struct error *open_chain(struct dump *dump)
{
	const struct dump_options *options = dump->options;

	if (!options->parent_dir && !options->tracks_memory)
		return NULL;
	return chain_open(options->pid, options->images_dir_fd, options->parent_dir, &dump->chain);
}

struct error *dump_run(const struct dump_options *options, enum dump_outcome *ret_outcome,
                       struct dump_statistics *ret_statistics)
{
	__attribute__((cleanup(dump_free))) struct dump dump = {
		.options = options,
		.statistics = ret_statistics,
		.calls = calls_new(),
		.children = {.pid = options->pid, .left_ns = options->wait_children_ns, .stop_fd = -1},
	};

	*ret_outcome = DUMP_RUNS;
	*ret_statistics = (struct dump_statistics){0};
	TRY(leftovers_clear(options->pid));
	TRY(keeper_start(&dump.keeper));
	TRY(leftovers_tell_keeper(dump.keeper, options->pid));
	TRY(tell_keeper_of_stay(&dump));
	TRY(tell_keeper_of_stop(&dump));
	TRY(first_look(&dump.children, &options->carry, &dump.saver));
	save_log(options->log, dump.saver);
	TRY(open_chain(&dump));
	TRY(connections_new(dump.saver, dump.keeper, &dump.connections));
	TRY(open_page_files(&dump));
	log_line(options->log, LOG_PHASES, "it can be saved");
	TRY(hooks_run(options->hooks, "pre-dump", options->pid, HOOK_NO_LIMIT_MS));
	struct error *error = save(&dump, ret_outcome);
	ret_statistics->warning = chain_take_warning(dump.chain);
	return error ? error_join(error, unlock_network(&dump)) : NULL;
}
