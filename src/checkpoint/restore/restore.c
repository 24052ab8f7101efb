/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/needs.h"
#include "checkpoint/page_files.h"
#include "checkpoint/restore/build.h"
#include "checkpoint/restore/incoming.h"
#include "checkpoint/restore/restore.h"
#include "task/keeper.h"
#include "util/test_stop.h"

/* The inventory is written last: see image_store_write(). */
static struct error *check_whole(const struct image_store *store)
{
	if (image_count(store, IMAGE_INVENTORY, 0) > 0)
		return NULL;
	return error_hint(error_new(ENODATA, "the images are not complete: there is no inventory.img"),
	                  "the dump was cut short; the program that it was of runs on, or is to be saved again");
}

/* Everything at once, and nothing has been made. */
static struct error *preflight(const struct restore_options *options, const struct build_options *build,
                               const struct image_store *store)
{
	auto_needs GodwitNeeds *needs = NULL;
	auto_problems struct problems problems = {0};
	const struct needs_images request = {
		.store = store,
		.images_dir_fd = options->images_dir_fd,
		.carry = &options->carry,
		.new_pids = options->new_pids,
		.cpu_caps = options->cpu_caps,
	};

	TRY(needs_of_images(&request, &needs));
	(void)needs_check(needs, &problems);
	return error_join(problems_error(&problems, "the program can't run here:"), build_preflight(store, build));
}

static struct error *fill(struct build *build, int dir_fd)
{
	struct memory *memory;
	size_t index = 0;
	pid_t own_pid;

	while (build_next_memory(build, &index, &own_pid, &memory))
		TRY(page_files_fill(dir_fd, own_pid, memory), "process %d", own_pid);
	return page_files_fill_shared(dir_fd, build_shared(build));
}

/* The last points at which a script can refuse: with our own lock still on, its connections leave no trace then. */
static struct error *prepare_to_go(const struct restore_options *options, pid_t pid)
{
	TRY(hooks_run(options->hooks, "post-restore", pid, HOOK_NO_LIMIT_MS));
	TRY(hooks_run_network(options->hooks, "network-unlock", pid, HOOK_NO_LIMIT_MS));
	return hooks_run(options->hooks, "pre-resume", pid, HOOK_NO_LIMIT_MS);
}

/* The first step is the last that leaves nothing behind when it fails; behind it everything is tried. */
static struct error *let_go(struct build *build, struct incoming *incoming, pid_t *ret_pid)
{
	TRY(build_outlive(build));
	test_stop("outlives");
	*ret_pid = build_pid(build);
	struct error *error = incoming_unlock(incoming);
	test_stop("unlocked");
	error = error_join(error, build_resume(build));
	return error_join(error, build_release(build));
}

struct error *restore_run(const struct restore_options *options, pid_t *ret_pid, pid_t *ret_child)
{
	auto_keeper struct keeper *keeper = NULL;
	auto_image_store struct image_store *store = NULL;
	auto_incoming struct incoming *incoming = NULL;
	auto_build struct build *build = NULL;

	*ret_pid = *ret_child = 0;
	TRY(keeper_start(&keeper));
	struct build_options build_options = {
		.carry = &options->carry,
		.keeper = keeper,
		.log = options->log,
		.is_left_stopped = options->leave_stopped,
		.is_child = options->is_child,
		.new_pids = options->new_pids,
	};
	TRY(image_store_read(options->images_dir_fd, &store));
	TRY(check_whole(store));
	struct clocks clocks;
	bool needs_clocks;
	TRY(clocks_needed(store, &needs_clocks, &clocks));
	build_options.clocks = needs_clocks ? &clocks : NULL;
	TRY(preflight(options, &build_options, store));
	log_line(options->log, LOG_PHASES, "all that is needed is here");
	TRY(hooks_run(options->hooks, "pre-restore", 0, HOOK_NO_LIMIT_MS));
	TRY(incoming_lock(store, &incoming));
	TRY(build_new(store, &build_options, &build));
	pid_t pid = build_pid(build);
	*ret_child = build_child(build);
	log_line(options->log, LOG_PHASES, "process %d is there, with its areas", pid);
	test_stop("built");
	TRY(hooks_run(options->hooks, "setup-namespaces", pid, HOOK_NO_LIMIT_MS));
	TRY(hooks_run(options->hooks, "post-setup-namespaces", pid, HOOK_NO_LIMIT_MS));
	TRY(fill(build, options->images_dir_fd), "memory");
	log_line(options->log, LOG_PHASES, "its memory is filled");
	test_stop("filled");
	TRY(build_complete(build));
	log_line(options->log, LOG_PHASES, "it is complete");
	if (options->watcher)
		TRY(options->watcher->before_go(options->watcher, pid));
	TRY(prepare_to_go(options, pid));
	test_stop("restored");
	TRY(let_go(build, incoming, ret_pid));
	log_line(options->log, LOG_PHASES, options->leave_stopped ? "it is stopped, as asked" : "it runs");
	return NULL;
}
