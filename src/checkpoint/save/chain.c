/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/save/chain.h"
#include "checkpoint/save/track_holder.h"
#include "image/pages.h"
#include "util/alloc.h"
#include "util/procfs.h"

struct chain {
	pid_t pid;
	int images_dir_fd;       /* borrowed */
	const char *parent_dir;  /* borrowed; NULL: none is wanted */
	struct holder *holder;   /* owned; NULL: there is none */
	struct tracker *tracker; /* owned; NULL: there is none */
	struct ranges parent;    /* what it has */
	bool has_parent;         /* whose pages are used */
	bool is_linked, is_done;
	char *warning; /* owned */
};

void chain_free(struct chain *chain)
{
	if (!chain)
		return;
	if (chain->is_linked && !chain->is_done)
		unlinkat(chain->images_dir_fd, "parent", 0);
	tracker_free(chain->tracker);
	holder_free(chain->holder);
	ranges_free(&chain->parent);
	free(chain->warning);
	free(chain);
}

/* ---- The parent ---- */

static struct error *id_of(int dir_fd, struct folder_id *ret_id)
{
	struct stat stat;

	if (fstat(dir_fd, &stat) < 0)
		return error_new(errno, "fstat(folder of images)");
	*ret_id = (struct folder_id){.device = stat.st_dev, .inode = stat.st_ino};
	return NULL;
}

static struct error *read_parent(struct chain *chain, int parent_fd)
{
	auto_pages_reader struct pages_reader *reader = NULL;
	struct page_run run;

	pid_t own_pid = chain->pid;
	(void)procfs_own_tid(chain->pid, chain->pid, &own_pid);
	TRY(pages_reader_open(parent_fd, own_pid, &reader));
	while (pages_reader_next(reader, &run))
		ranges_append(&chain->parent, run.address, run.address + (uint64_t)run.page_count * PAGE_BYTES);
	return NULL;
}

/* The same link from an earlier attempt is as good. */
static struct error *link_parent(struct chain *chain)
{
	char target[PATH_MAX] = "";

	if (symlinkat(chain->parent_dir, chain->images_dir_fd, "parent") == 0) {
		chain->is_linked = true;
		return NULL;
	}
	int saved_errno = errno;
	ssize_t n = readlinkat(chain->images_dir_fd, "parent", target, sizeof(target) - 1);
	if (n > 0 && strcmp(target, chain->parent_dir) == 0)
		return NULL;
	return error_new(saved_errno, "make the link \"parent\" to %s", chain->parent_dir);
}

static void warn(struct chain *chain, const char *why)
{
	free(chain->warning);
	chain->warning = xformat("all pages are saved, not only those written since the previous dump: %s", why);
}

/* Is what was written since known from this very folder on? */
static struct error *use_parent(struct chain *chain, const struct folder_id *last)
{
	auto_fd int fd = openat(chain->images_dir_fd, chain->parent_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct folder_id id = {0};

	if (fd < 0)
		return error_new(errno, "previous images: open(%s), from the folder of the images", chain->parent_dir);
	TRY(id_of(fd, &id));
	if (!chain->tracker) {
		warn(chain, "nobody has kept track of them (was that a pre-dump, or a dump with --track-mem?)");
		return NULL;
	}
	if (id.device != last->device || id.inode != last->inode) {
		warn(chain, "the program has been saved into another folder since");
		return NULL;
	}
	TRY(read_parent(chain, fd), "previous images in %s", chain->parent_dir);
	TRY(link_parent(chain));
	chain->has_parent = true;
	return NULL;
}

struct error *chain_open(pid_t pid, int images_dir_fd, const char *parent_dir, struct chain **ret_chain)
{
	auto_chain_of_folders struct chain *chain = xalloc(sizeof(*chain));
	struct tracker_kept kept;
	struct folder_id last = {0};

	chain->pid = pid;
	chain->images_dir_fd = images_dir_fd;
	chain->parent_dir = parent_dir;
	TRY(holder_find(pid, &chain->holder, &kept, &last));
	if (chain->holder)
		chain->tracker = tracker_adopt(pid, &kept);
	if (parent_dir)
		TRY(use_parent(chain, &last));
	if (chain->tracker && !chain->has_parent)
		tracker_send_all(chain->tracker);
	*ret_chain = take(chain);
	return NULL;
}

struct tracker *chain_tracker(const struct chain *chain)
{
	return chain->tracker;
}

const struct ranges *chain_parent(const struct chain *chain)
{
	return chain->has_parent ? &chain->parent : NULL;
}

char *chain_take_warning(struct chain *chain)
{
	return chain ? take(chain->warning) : NULL;
}

/* ---- Tracking ---- */

struct error *chain_track(struct chain *chain, struct process *process)
{
	return tracker_new(process, TRACK_AUTO, &chain->tracker);
}

struct error *chain_begin(struct chain *chain)
{
	return chain->holder ? holder_begin(chain->holder) : NULL;
}

struct error *chain_done(struct chain *chain, bool is_over)
{
	struct tracker_kept kept;
	struct folder_id folder;

	chain->is_done = true;
	if (!chain->tracker || is_over)
		return NULL;
	TRY(id_of(chain->images_dir_fd, &folder));
	if (chain->holder)
		return holder_done(chain->holder, &folder);
	auto_error struct error *error = tracker_keep(chain->tracker, &kept);
	if (!error)
		return holder_start(chain->pid, &kept, &folder);
	auto_free char *line = error_line(error);
	warn(chain, line);
	return NULL;
}
