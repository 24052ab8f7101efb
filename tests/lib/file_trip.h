/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Descriptors of this process saved and made again in it, with the stub running here instead of in a stopped task. So
 * both halves of a kind of file are tested without a second process.
 */
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "lib/unit.h"
#include "objects/objects.h"
#include "util/alloc.h"

enum { TRIP_MAX = 16 };

/* Made by trip_begin(), ended by trip_end(). */
struct trip {
	int pidfd;
	size_t count;
	char *texts[2 * TRIP_MAX]; /* owned: links and fdinfos */
	struct open_file files[TRIP_MAX];
	struct open_number numbers[TRIP_MAX];
	struct open_task task;
	struct open_files all;
	struct carry_options options;
	FownEntry owner;
	struct image_store *store;
	struct restore_files *restore; /* NULL at first */
};

static inline void trip_begin(struct trip *trip)
{
	*trip = (struct trip){
		.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0),
		.options = {.ghost_limit_bytes = 1 << 20},
		.owner = FOWN_ENTRY__INIT,
		.store = image_store_new(),
	};
	trip->all.next_id = 1000;
	assert_true(trip->pidfd >= 0);
}

static inline void trip_end(struct trip *trip)
{
	for (size_t i = 0; i < 2 * trip->count; i++)
		free(trip->texts[i]);
	open_files_free(&trip->all);
	restore_files_free(trip->restore);
	image_store_free(trip->store);
	close(trip->pidfd);
}

static inline char *trip_fdinfo(int fd)
{
	auto_free char *path = xformat("/proc/self/fdinfo/%d", fd);
	auto_file FILE *file = fopen(path, "re");
	char *text = xalloc(16384);

	assert_non_null(file);
	assert_true(fread(text, 1, 16383, file) > 0);
	return text;
}

/* Descriptors are given in ascending order, each another description. Returns it. */
static inline const struct open_file *trip_add(struct trip *trip, int fd)
{
	auto_free char *path = xformat("/proc/self/fd/%d", fd);
	char *link = trip->texts[2 * trip->count] = xalloc(PATH_MAX);
	char *fdinfo = trip->texts[2 * trip->count + 1] = trip_fdinfo(fd);
	struct open_file *file = &trip->files[trip->count];

	assert_true(trip->count < TRIP_MAX);
	assert_true(readlink(path, link, PATH_MAX - 1) > 0);
	*file = (struct open_file){
		.id = (uint32_t)trip->count + 7,
		.pid = getpid(),
		.pidfd = trip->pidfd,
		.fd = fd,
		.link = link,
		.fdinfo = fdinfo,
		.status_flags = (uint32_t)fcntl(fd, F_GETFL),
		.owner = &trip->owner,
		.options = &trip->options,
		.all = &trip->all,
	};
	assert_int_equal(fstat(fd, &file->stat), 0);
	trip->numbers[trip->count] = (struct open_number){.fd = fd, .file = file};
	trip->count++;
	trip->task = (struct open_task){.pid = getpid(), .own_pid = getpid(), .pidfd = trip->pidfd, .files_id = 1};
	trip->all.tasks = &trip->task;
	trip->all.task_count = 1;
	trip->all.list = trip->files;
	trip->all.numbers = trip->numbers;
	trip->all.count = trip->all.number_count = trip->count;
	return file;
}

static inline struct error *trip_check(const struct open_file *file)
{
	const struct file_ops *ops = file_ops_for(file);

	assert_non_null(ops);
	return ops->check ? ops->check(file) : NULL;
}

static inline struct error *trip_save(struct trip *trip)
{
	for (size_t i = 0; i < trip->count; i++) {
		const struct file_ops *ops = file_ops_for(&trip->files[i]);

		assert_non_null(ops);
		TRY(ops->save(&trip->files[i], trip->store), "fd %d", trip->files[i].fd);
	}
	return NULL;
}

static inline struct error *trip_run(struct batch *batch, struct stub_control *pages)
{
	batch_copy_out(batch, pages);
	stub_run(pages);
	batch_take_results(batch, pages);
	return batch_check(batch);
}

/* Makes the file of an entry here. */
static inline struct error *trip_restore_entry(struct trip *trip, const FileEntry *entry, int *ret_fd)
{
	struct stub_control pages;
	auto_batch struct batch *batch = batch_new((uintptr_t)&pages, 0);
	struct made_file made;
	const struct file_ops *ops = file_ops_of_type(entry->type);

	assert_non_null(ops);
	if (!trip->restore)
		trip->restore = restore_files_new(trip->store, &trip->options);
	batch_about(batch, ops->name, entry->id);
	TRY(ops->restore(entry, trip->restore, batch, &made));
	TRY(trip_run(batch, &pages));
	*ret_fd = made.local_fd >= 0 ? made.local_fd : (int)batch_result(batch, made.fd);
	if (!(made.status_flags & O_PATH))
		assert_int_equal(fcntl(*ret_fd, F_SETFL, made.status_flags), 0);
	return NULL;
}

/* Makes the file with this id of files.img here. */
static inline struct error *trip_restore(struct trip *trip, uint32_t id, int *ret_fd)
{
	for (size_t i = 0; i < image_count(trip->store, IMAGE_FILES, 0); i++) {
		FileEntry *entry = NULL;

		TRY(image_get(trip->store, IMAGE_FILES, 0, i, (ProtobufCMessage **)&entry));
		bool is_it = entry->id == id;
		struct error *error = is_it ? trip_restore_entry(trip, entry, ret_fd) : NULL;
		file_entry__free_unpacked(entry, NULL);
		if (is_it)
			return error;
	}
	return error_new(0, "no file %u in the image", id);
}
