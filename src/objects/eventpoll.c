/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * epoll(7): a set of watched descriptors.
 *
 * Carried: which descriptors are watched for what, and what goes back to the program with each event. Added again when
 * all files are in their places, so other epolls may be among them.
 *
 * Traps: what is watched is a description together with the number it was added by. If that number stands for another
 * file by now, events still come, until the last copy of the description is closed: that is refused. And adding makes
 * an event of what is ready already, also for EPOLLET, whose reader has to expect that (epoll(7)).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "objects/objects.h"
#include "task/process.h"
#include "util/alloc.h"

enum { WATCHES_PER_BATCH = 100 };

static bool eventpoll_recognizes(const struct open_file *file)
{
	return strcmp(file->link, "anon_inode:[eventpoll]") == 0;
}

/* ---- Saving ---- */

/* A line of proc_pid_fdinfo(5). */
static bool parse_watch(const char *line, EventpollTfdEntry *watch)
{
	long long pos;

	eventpoll_tfd_entry__init(watch);
	if (sscanf(line,
	           "tfd: %" SCNu32 " events: %" SCNx32 " data: %" SCNx64 " pos:%lli ino:%" SCNx64 " sdev:%" SCNx32,
	           &watch->tfd, &watch->events, &watch->data, &pos, &watch->inode, &watch->dev) != 6)
		return false;
	watch->has_dev = true;
	watch->has_inode = true;
	watch->has_pos = true;
	watch->pos = (uint64_t)pos;
	return true;
}

/* Does the number still stand for the file that is watched by it? linux/kcmp.h */
static bool is_current(const struct open_file *file, uint32_t number)
{
	const struct kcmp_epoll_slot slot = {.efd = (uint32_t)file->fd, .tfd = number};

	return syscall(SYS_kcmp, file->pid, file->pid, KCMP_EPOLL_TFD, number, &slot) == 0;
}

static size_t count_watches(const char *fdinfo)
{
	size_t count = 0;

	for (const char *line = fdinfo; (line = strstr(line, "tfd:")); line++)
		count++;
	return count;
}

static struct error *check_watched(const struct open_file *file, uint32_t number)
{
	const struct open_file *watched = open_files_at(file->all, file->pid, (int)number);

	if (!watched || !watched->becomes_file)
		return NULL;
	return error_hint(
		error_new(ENOTSUP, "epoll watches fd %u, which becomes a file, and no file can be watched", number),
		"--stdio journal where it is output; else start the program with </dev/null");
}

/* Into room for count_watches(). */
static struct error *read_watches(const struct open_file *file, EventpollTfdEntry *watches)
{
	EventpollTfdEntry *watch = watches;

	for (const char *line = file->fdinfo; (line = strstr(line, "tfd:")); line++, watch++) {
		if (!parse_watch(line, watch))
			return error_new(EPROTO, "fdinfo of an epoll: \"%.*s\"", (int)strcspn(line, "\n"), line);
		/* As long as the program runs it may just have closed it; then it passes. */
		if (!is_current(file, watch->tfd))
			return error_hint(error_new(EAGAIN, "epoll watches a file by its former number %u", watch->tfd),
			                  "a program should take a file out of an epoll before it closes it");
		TRY(check_watched(file, watch->tfd));
		watch->id = file->id;
	}
	return NULL;
}

static struct error *eventpoll_check(const struct open_file *file)
{
	auto_free EventpollTfdEntry *watches = xalloc((count_watches(file->fdinfo) + 1) * sizeof(*watches));

	return read_watches(file, watches);
}

static struct error *eventpoll_save(const struct open_file *file, struct image_store *store)
{
	size_t count = count_watches(file->fdinfo);
	auto_free EventpollTfdEntry *watches = xalloc((count + 1) * sizeof(*watches));
	auto_free EventpollTfdEntry **pointers = xalloc((count + 1) * sizeof(*pointers));
	EventpollFileEntry eventpoll = EVENTPOLL_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	TRY(read_watches(file, watches));
	for (size_t i = 0; i < count; i++)
		pointers[i] = &watches[i];
	eventpoll.id = file->id;
	eventpoll.flags = file->status_flags;
	eventpoll.fown = file->owner;
	eventpoll.n_tfd = count;
	eventpoll.tfd = pointers;

	entry.type = FD_TYPES__EVENTPOLL;
	entry.id = file->id;
	entry.epfd = &eventpoll;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

/* ---- Restoring ---- */

static struct error *eventpoll_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                       struct made_file *ret_made)
{
	const EventpollFileEntry *eventpoll = entry->epfd;

	(void)restore;
	if (!eventpoll)
		return error_new(EBADMSG, "file entry of type eventpoll without an eventpoll");
	*ret_made = (struct made_file){
		.local_fd = -1,
		.fd = batch_call(batch, epoll_create1, val(0)),
		.status_flags = eventpoll->flags & ~(uint32_t)O_ACCMODE,
		.owner = eventpoll->fown,
	};
	return NULL;
}

static void append_watch(struct batch *batch, int epoll, const EventpollTfdEntry *watch)
{
	const struct epoll_event event = {.events = watch->events, .data.u64 = watch->data};

	batch_call(batch, epoll_ctl, val((uint64_t)epoll), val(EPOLL_CTL_ADD), val(watch->tfd),
	           batch_bytes(batch, &event, sizeof(event)));
}

static struct error *eventpoll_finish(const struct placed_file *file, struct restore_files *restore,
                                      struct process *task)
{
	const EventpollFileEntry *eventpoll = file->entry->epfd;

	(void)restore;
	for (size_t i = 0; i < eventpoll->n_tfd; i += WATCHES_PER_BATCH) {
		auto_batch struct batch *batch = process_batch(task, 0);

		batch_about(batch, "eventpoll", eventpoll->id);
		for (size_t j = i; j < eventpoll->n_tfd && j < i + WATCHES_PER_BATCH; j++)
			append_watch(batch, file->fd, eventpoll->tfd[j]);
		TRY(process_run(task, batch));
	}
	return NULL;
}

const struct file_ops eventpoll_ops = {
	.name = "eventpoll",
	.type = FD_TYPES__EVENTPOLL,
	.recognizes = eventpoll_recognizes,
	.check = eventpoll_check,
	.save = eventpoll_save,
	.restore = eventpoll_restore,
	.finish = eventpoll_finish,
};
