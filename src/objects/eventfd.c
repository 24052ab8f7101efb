/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * eventfd(2): a counter behind a descriptor.
 *
 * Carried: the counter (all 64 bits), EFD_SEMAPHORE. Saved from outside, restored by a batch in the task.
 *
 * The image has no field for EFD_SEMAPHORE, but its value, 1, is free in flags: the access mode there is always
 * O_RDWR, and F_SETFL ignores those bits (fcntl(2)). So readers that don't know of it lose the mode, not the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#include "objects/objects.h"
#include "util/procfs.h"

/* The most that write(2) can bring it to. Only the kernel itself gets beyond, as an overflow mark: eventfd(2). */
static const uint64_t counter_max = UINT64_MAX - 1;

static bool eventfd_recognizes(const struct open_file *file)
{
	return strcmp(file->link, "anon_inode:[eventfd]") == 0;
}

static struct error *check_counter(uint64_t counter)
{
	if (counter > counter_max)
		return error_new(EOVERFLOW, "counter %#llx", (unsigned long long)counter);
	return NULL;
}

static struct error *eventfd_save(const struct open_file *file, struct image_store *store)
{
	EventfdFileEntry eventfd = EVENTFD_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	uint64_t counter;
	uint64_t is_semaphore;

	int r = procfs_number(file->fdinfo, "eventfd-count", 16, &counter);
	if (r < 0)
		return error_new(-r, "eventfd-count in fdinfo");
	TRY(check_counter(counter));

	r = procfs_number(file->fdinfo, "eventfd-semaphore", 10, &is_semaphore);
	if (r < 0)
		return error_hint(error_new(-r, "eventfd-semaphore in fdinfo"),
		                  "Linux 6.5 and newer tell whether an eventfd is a semaphore");

	eventfd.id = file->id;
	eventfd.flags = file->status_flags | (is_semaphore ? EFD_SEMAPHORE : 0);
	eventfd.fown = file->owner;
	eventfd.counter = counter;

	entry.type = FD_TYPES__EVENTFD;
	entry.id = file->id;
	entry.efd = &eventfd;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static struct error *eventfd_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                     struct made_file *ret_made)
{
	const EventfdFileEntry *eventfd = entry->efd;

	(void)restore;
	if (!eventfd)
		return error_new(EBADMSG, "file entry of type eventfd without an eventfd");
	TRY(check_counter(eventfd->counter));

	/* eventfd2 takes 32 bits as the first value, the counter has 64: it starts at 0 and is written. */
	struct arg fd = batch_call(batch, eventfd2, val(0), val(eventfd->flags & EFD_SEMAPHORE));
	batch_call(batch, write, fd, batch_bytes(batch, &eventfd->counter, sizeof(eventfd->counter)),
	           val(sizeof(eventfd->counter)));

	*ret_made = (struct made_file){
		.local_fd = -1,
		.fd = fd,
		.status_flags = eventfd->flags & ~(uint32_t)O_ACCMODE,
		.owner = eventfd->fown,
	};
	return NULL;
}

const struct file_ops eventfd_ops = {
	.name = "eventfd",
	.type = FD_TYPES__EVENTFD,
	.recognizes = eventfd_recognizes,
	.save = eventfd_save,
	.restore = eventfd_restore,
};
