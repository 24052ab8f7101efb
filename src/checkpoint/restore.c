/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/build.h"
#include "checkpoint/incoming.h"
#include "checkpoint/restore.h"
#include "image/pages.h"
#include "memory/pages.h"
#include "task/keeper.h"
#include "util/test_stop.h"

enum { PIECE_PAGES = PAGE_SINK_BYTES / PAGE_BYTES };

static struct error *read_exactly(int fd, uint64_t offset, void *bytes, size_t size_bytes)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = pread(fd, (char *)bytes + done, size_bytes - done, (off_t)(offset + done));

		if (n < 0 && errno != EINTR)
			return error_new(errno, "read of saved pages");
		if (n == 0)
			return error_new(EBADMSG, "the saved pages end at %llu", (unsigned long long)(offset + done));
		done += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

static struct error *fill_run(struct memory *memory, const struct page_run *run, void *buffer)
{
	for (size_t done = 0; done < run->page_count;) {
		size_t count = run->page_count - done;
		uint64_t offset = (uint64_t)done * PAGE_BYTES;

		if (count > PIECE_PAGES)
			count = PIECE_PAGES;
		TRY(read_exactly(run->fd, run->offset + offset, buffer, count * PAGE_BYTES));
		TRY(memory_fill(memory, run->address + offset, buffer, count));
		done += count;
	}
	return NULL;
}

static struct error *fill(struct build *build, int images_dir_fd)
{
	auto_pages_reader struct pages_reader *reader = NULL;
	auto_free void *buffer = malloc(PAGE_SINK_BYTES);
	struct page_run run;

	if (!buffer)
		return error_new(ENOMEM, "buffer");
	TRY(pages_reader_open(images_dir_fd, build_pid(build), &reader));
	while (pages_reader_next(reader, &run))
		TRY(fill_run(build_memory(build), &run, buffer));
	return NULL;
}

/* The inventory is written last: see image_store_write(). */
static struct error *check_whole(const struct image_store *store)
{
	if (image_count(store, IMAGE_INVENTORY, 0) > 0)
		return NULL;
	return error_hint(error_new(ENODATA, "the images are not complete: there is no inventory.img"),
	                  "the dump was cut short; the program that it was of runs on, or is to be saved again");
}

/* The last points at which a script can refuse: with our own lock still on, its connections leave no trace then. */
static struct error *prepare_to_go(const struct restore_options *options, pid_t pid)
{
	TRY(hooks_run(options->hooks, "post-restore", pid, HOOK_NO_LIMIT_MS));
	TRY(hooks_run_network(options->hooks, "network-unlock", pid, HOOK_NO_LIMIT_MS));
	return hooks_run(options->hooks, "pre-resume", pid, HOOK_NO_LIMIT_MS);
}

/* The first step is the last that leaves nothing behind when it fails; behind it everything is tried. */
static struct error *let_go(struct build *build, struct incoming *incoming, bool is_left_stopped, pid_t *ret_pid)
{
	TRY(build_outlive(build, is_left_stopped));
	test_stop("outlives");
	*ret_pid = build_pid(build);
	struct error *error = incoming_unlock(incoming);
	test_stop("unlocked");
	error = error_join(error, build_resume(build));
	return error_join(error, build_release(build));
}

struct error *restore_run(const struct restore_options *options, pid_t *ret_pid)
{
	auto_keeper struct keeper *keeper = NULL;
	auto_image_store struct image_store *store = NULL;
	auto_incoming struct incoming *incoming = NULL;
	auto_build struct build *build = NULL;

	*ret_pid = 0;
	TRY(keeper_start(&keeper));
	const struct build_options build_options = {.carry = &options->carry, .keeper = keeper};
	TRY(image_store_read(options->images_dir_fd, &store));
	TRY(check_whole(store));
	TRY(build_preflight(store, &build_options));
	log_line(options->log, LOG_PHASES, "all that is needed is here");
	TRY(hooks_run(options->hooks, "pre-restore", 0, HOOK_NO_LIMIT_MS));
	TRY(incoming_lock(store, &incoming));
	TRY(build_new(store, &build_options, &build));
	pid_t pid = build_pid(build);
	log_line(options->log, LOG_PHASES, "process %d is there, with its areas", pid);
	TRY(hooks_run(options->hooks, "setup-namespaces", pid, HOOK_NO_LIMIT_MS));
	TRY(hooks_run(options->hooks, "post-setup-namespaces", pid, HOOK_NO_LIMIT_MS));
	TRY(fill(build, options->images_dir_fd), "memory");
	log_line(options->log, LOG_PHASES, "its memory is filled");
	TRY(build_complete(build));
	log_line(options->log, LOG_PHASES, "it is complete");
	if (options->watcher)
		TRY(options->watcher->before_go(options->watcher, pid));
	TRY(prepare_to_go(options, pid));
	test_stop("restored");
	TRY(let_go(build, incoming, options->leave_stopped, ret_pid));
	log_line(options->log, LOG_PHASES, options->leave_stopped ? "it is stopped, as asked" : "it runs");
	return NULL;
}
