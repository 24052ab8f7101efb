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
#include "checkpoint/sysv_leave.h"
#include "memory/shared_send.h"
#include "task/keeper.h"
#include "task/leftovers.h"
#include "util/alloc.h"
#include "util/clock.h"
#include "util/descendants.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum {
	FREEZE_TRIES = 50,
	TRIES_UNHELD = 3,
	BETWEEN_TRIES_US = 2000,
	DRAIN_NS = 3 * 1000 * 1000,
};

struct dump {
	const struct dump_options *options;
	struct keeper *keeper; /* owned */
	struct chain *chain;   /* owned; NULL: no part of one */
	struct saver *saver;   /* owned */
	struct children_wait children;
	struct tree_calls *calls;        /* owned */
	struct connections *connections; /* owned */
	struct frozen *frozen;           /* owned */
	struct image_store *store;       /* owned */
	struct page_files pages;
	struct dump_statistics *statistics;
	uint64_t start_ns;      /* of the freeze */
	bool is_network_locked; /* by a script */
	uint32_t *stop_undos;   /* owned: ids of the keeper's */
	size_t stop_undo_count;
};

/* Connections go on before the program does. */
static void dump_free(struct dump *dump)
{
	connections_free(dump->connections);
	frozen_free(dump->frozen);
	chain_free(dump->chain);
	tree_calls_free(dump->calls);
	saver_free(dump->saver);
	image_store_free(dump->store);
	page_files_free(&dump->pages);
	free(dump->stop_undos);
	keeper_stop(dump->keeper);
}

/* Where written pages are to be told to the next dump, and nobody tells them yet, that begins here. */
static struct error *send_own_pages(struct dump *dump, size_t task, struct page_sink *sink)
{
	struct process *process = dump->frozen->processes[task];
	const struct areas *areas = saver_areas(dump->saver, task);

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

	for (size_t i = 0; i < saver_count(dump->saver); i++) {
		if (!saver_owns_memory(dump->saver, i))
			continue;
		TRY(page_files_select(&dump->pages, saver_live(dump->saver)->list[i].own_pid));
		TRY(send_own_pages(dump, i, sink));
	}
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

static struct error *prepare(struct dump *dump);

/* The processes are others than those that were looked at. */
static struct error *look_again(struct dump *dump)
{
	TRY(first_look_again(&dump->children, dump->calls, dump->saver));
	return prepare(dump);
}

static struct error *look_while_frozen(void *context, const struct live_tree **ret_live)
{
	struct dump *dump = context;

	TRY(first_look_held(dump->saver));
	*ret_live = saver_live(dump->saver);
	return prepare(dump);
}

/* A tree that changes all the time is looked at while it stands still, when it was given some time not to. */
static struct error *freeze_it(struct dump *dump, int tries, enum obstacle *ret_obstacle)
{
	const struct relook relook = {.look = look_while_frozen, .context = dump};
	const struct freeze_request request = {
		.live = saver_live(dump->saver),
		.calls = dump->calls,
		.room_bytes = saver_room_bytes(dump->saver),
		.relook = tries >= TRIES_UNHELD ? &relook : NULL,
	};

	return freeze(&request, &dump->frozen, ret_obstacle);
}

/* Freezes, and saves all but pages and connections, if nothing is in the way. */
static struct error *try_freeze(struct dump *dump, int tries, enum obstacle *ret_obstacle)
{
	bool is_last_try = tries == FREEZE_TRIES - 1;
	struct unsent left;

	TRY(freeze_it(dump, tries, ret_obstacle));
	dump->start_ns = dump->frozen->began_ns;
	dump->statistics->freezing_ns = clock_now_ns() - dump->start_ns;
	dump->store = image_store_new();
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	TRY(obstacle_from(saver_save(dump->saver, dump->frozen, dump->store), is_last_try, ret_obstacle));
	if (*ret_obstacle != OBSTACLE_NONE)
		return NULL;
	TRY(connections_drain(dump->connections, DRAIN_NS, &left));
	*ret_obstacle = left.connections > 0 ? OBSTACLE_CONNECTIONS : OBSTACLE_NONE;
	return NULL;
}

static struct error *freeze_and_save(struct dump *dump)
{
	enum obstacle obstacle = OBSTACLE_NONE;

	for (int tries = 0; tries < FREEZE_TRIES;) {
		TRY(try_freeze(dump, tries, &obstacle));
		if (obstacle == OBSTACLE_NONE)
			return NULL;
		saver_drop_copies(dump->saver);
		TRY(frozen_thaw(dump->frozen));
		frozen_free(take(dump->frozen));
		image_store_free(take(dump->store));
		obstacle_log(obstacle, dump->options->log);
		/* Where there is time to wait for the end of children, that is no try. */
		tries += obstacle != OBSTACLE_PROCESSES || !children_again(&dump->children);
		if (obstacle == OBSTACLE_PROCESSES)
			TRY(look_again(dump));
		else
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

/* In the keeper: the end had begun, and nothing else may follow. Its descendants go first, so those that are left are
 * its own. */
static void undo_mercy(const void *bytes, const int *fds, size_t fd_count)
{
	pid_t pid;

	(void)fd_count;
	memcpy(&pid, bytes, sizeof(pid));
	if (syscall(SYS_pidfd_send_signal, fds[0], 0, NULL, 0) < 0)
		return;
	sysv_leave(pid);
	(void)descendants_signal(pid, SIGKILL);
}

/* In the keeper: they were stopped for good too early. Children come first, and behind their parents in the list. */
static void undo_stop(const void *bytes, const int *fds, size_t fd_count)
{
	(void)bytes;
	while (fd_count-- > 0)
		syscall(SYS_pidfd_send_signal, fds[fd_count], SIGCONT, NULL, 0);
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

static bool is_stopped(pid_t pid)
{
	auto_free char *status = NULL;

	return procfs_read(pid, "status", &status, NULL) == 0 && strstr(status, "\nState:\tT");
}

static struct error *add_stop_undo(struct dump *dump, const int *pidfds, size_t count)
{
	const struct keeper_undo undo = {.undo = undo_stop, .fds = pidfds, .fd_count = count};

	if (count == 0)
		return NULL;
	dump->stop_undos = xrealloc(dump->stop_undos, (dump->stop_undo_count + 1) * sizeof(*dump->stop_undos));
	TRY(keeper_add(dump->keeper, &undo, &dump->stop_undos[dump->stop_undo_count]));
	dump->stop_undo_count++;
	return NULL;
}

/* Those that were stopped before stay so. */
static struct error *add_stop_undos(struct dump *dump)
{
	const struct live_tree *live = saver_live(dump->saver);
	int pidfds[KEEPER_FDS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < live->tree.count; i++) {
		if (live->list[i].pidfd >= 0 && !is_stopped(live->list[i].pid))
			pidfds[count++] = live->list[i].pidfd;
		if (count < KEEPER_FDS_MAX)
			continue;
		TRY(add_stop_undo(dump, pidfds, count));
		count = 0;
	}
	return add_stop_undo(dump, pidfds, count);
}

/* Registered early, and so done late: the connections come before it. */
static struct error *tell_keeper_of_stop(struct dump *dump)
{
	if (dump->options->end != DUMP_LEAVE_STOPPED)
		return NULL;
	while (dump->stop_undo_count > 0)
		TRY(keeper_drop(dump->keeper, dump->stop_undos[--dump->stop_undo_count]));
	return add_stop_undos(dump);
}

/* All is written: from here on the program doesn't go on by itself, whatever becomes of us. */
static struct error *commit_to_kill(struct dump *dump)
{
	const struct keeper_undo undo = {
		.undo = undo_mercy,
		.bytes = &dump->options->pid,
		.size_bytes = sizeof(dump->options->pid),
		.fds = &dump->frozen->processes[0]->pidfd,
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
	sysv_leave(dump->options->pid);
	/* Without their own help: they are parked, so nothing of them runs any more. */
	TRY(frozen_end(dump->frozen, -1));
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
static struct error *prepare_page_files(struct dump *dump)
{
	static const uint64_t waiting_bytes_max = 16 << 20;
	static const uint64_t more_bytes = 256 << 10; /* the vDSO, and what it touches until the freeze */
	uint64_t room = is_written_late(dump) ? waiting_bytes_max : 0;

	for (size_t i = 0; i < saver_count(dump->saver); i++) {
		const struct open_task *task = &saver_live(dump->saver)->list[i];

		if (!saver_owns_memory(dump->saver, i))
			continue;
		uint64_t bytes = pages_in_memory(task->pid) * PAGE_BYTES + more_bytes;
		uint64_t waiting = bytes < room ? bytes : room;
		TRY(page_files_prepare(&dump->pages, task->own_pid, waiting));
		room -= waiting;
	}
	return NULL;
}

static struct error *check_chain(const struct dump *dump)
{
	if (!dump->chain || saver_count(dump->saver) == 1)
		return NULL;
	return error_hint(error_new(ENOTSUP, "process %d has child processes", dump->options->pid),
	                  "the memory of process trees can only be saved whole yet: without --prev-images-dir and "
	                  "--track-mem");
}

/* What depends on which processes there are. */
static struct error *prepare(struct dump *dump)
{
	TRY(check_chain(dump));
	TRY(tell_keeper_of_stop(dump));
	return prepare_page_files(dump);
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
	TRY(frozen_set_stay(dump->frozen, true));
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
		.calls = tree_calls_new(),
		.children = {.pid = options->pid, .left_ns = options->wait_children_ns, .stop_fd = -1},
	};

	*ret_outcome = DUMP_RUNS;
	*ret_statistics = (struct dump_statistics){0};
	TRY(leftovers_clear(options->pid));
	TRY(keeper_start(&dump.keeper));
	TRY(leftovers_tell_keeper(dump.keeper, options->pid));
	TRY(tell_keeper_of_stay(&dump));
	TRY(first_look(&dump.children, &options->carry, dump.calls, &dump.saver));
	save_log(options->log, dump.saver);
	TRY(open_chain(&dump));
	TRY(connections_new(dump.saver, dump.keeper, &dump.connections));
	page_files_begin(&dump.pages, options->images_dir_fd, dump.chain ? chain_parent(dump.chain) : NULL);
	TRY(prepare(&dump));
	log_line(options->log, LOG_PHASES, "it can be saved");
	TRY(hooks_run(options->hooks, "pre-dump", options->pid, HOOK_NO_LIMIT_MS));
	struct error *error = save(&dump, ret_outcome);
	ret_statistics->warning = chain_take_warning(dump.chain);
	return error ? error_join(error, unlock_network(&dump)) : NULL;
}
