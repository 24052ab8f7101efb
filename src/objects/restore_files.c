/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the kinds of files share while a program is restored: the second half of objects.h. */
#include <errno.h>
#include <sys/syscall.h>

#include "objects/objects.h"
#include "util/alloc.h"
#include "util/folder.h"
#include "util/number_map.h"

struct kept {
	struct kept *next;
	ProtobufCMessage *message; /* owned */
};

struct restored_ghosts {
	struct number_map *fds; /* (inode, device): a descriptor, owned */
};

struct restore_files {
	const struct image_store *store;
	const struct carry_options *options;
	struct number_map *spares;                    /* (type, key): a descriptor, owned */
	struct number_map *indexes[IMAGE_KIND_COUNT]; /* (key, 0): number of the message; NULL: not made yet */
	struct kept *kept;                            /* owned */
	struct restored_ghosts *own_ghosts;           /* owned */
	struct restored_ghosts *ghosts;               /* borrowed, or the own ones */
	struct number_map *notes;                     /* (type, key): of restore_note() */
	struct number_map *places;                    /* (id, 0): pidfd of a task that has it, and number there */
	struct number_map *replaced;                  /* (kind, key): a message, one of the kept */
	struct restore_task task;
	restore_find_task *find_task; /* NULL: there are none */
	void *find_context;           /* borrowed, for it */
	char **made;                  /* owned: paths */
	size_t made_count;
	restore_folder_watch *folder_watch; /* NULL: nobody */
	void *folder_context;               /* borrowed, for it */
	bool is_running;
};

struct restored_ghosts *restored_ghosts_new(void)
{
	struct restored_ghosts *ghosts = xalloc(sizeof(*ghosts));

	ghosts->fds = number_map_new();
	return ghosts;
}

void restored_ghosts_free(struct restored_ghosts *ghosts)
{
	uint64_t fd;

	if (!ghosts)
		return;
	while (number_map_pop(ghosts->fds, &fd))
		close((int)fd);
	number_map_free(ghosts->fds);
	free(ghosts);
}

void restore_files_set_ghosts(struct restore_files *restore, struct restored_ghosts *ghosts)
{
	restore->ghosts = ghosts;
}

int restore_ghost_borrow(const struct restore_files *restore, uint64_t inode, uint64_t device)
{
	uint64_t fd;

	return number_map_find(restore->ghosts->fds, inode, device, &fd) ? (int)fd : -1;
}

void restore_ghost_give(struct restore_files *restore, uint64_t inode, uint64_t device, int fd)
{
	number_map_add(restore->ghosts->fds, inode, device, (uint64_t)fd);
}

struct restore_files *restore_files_new(const struct image_store *store, const struct carry_options *options)
{
	struct restore_files *restore = xalloc(sizeof(*restore));

	restore->store = store;
	restore->options = options;
	restore->spares = number_map_new();
	restore->own_ghosts = restored_ghosts_new();
	restore->ghosts = restore->own_ghosts;
	restore->notes = number_map_new();
	restore->places = number_map_new();
	restore->replaced = number_map_new();
	return restore;
}

void restore_files_free(struct restore_files *restore)
{
	uint64_t fd;

	if (!restore)
		return;
	while (number_map_pop(restore->spares, &fd))
		close((int)fd);
	number_map_free(restore->spares);
	restored_ghosts_free(restore->own_ghosts);
	number_map_free(restore->notes);
	number_map_free(restore->places);
	number_map_free(restore->replaced);
	for (size_t i = 0; i < restore->made_count; i++) {
		folder_remove(restore->made[i]); /* a file, too */
		free(restore->made[i]);
	}
	free(restore->made);
	for (size_t i = 0; i < IMAGE_KIND_COUNT; i++)
		number_map_free(restore->indexes[i]);
	while (restore->kept) {
		struct kept *kept = restore->kept;

		restore->kept = kept->next;
		protobuf_c_message_free_unpacked(kept->message, NULL);
		free(kept);
	}
	free(restore);
}

void restore_keep(struct restore_files *restore, ProtobufCMessage *message)
{
	struct kept *kept = xalloc(sizeof(*kept));

	*kept = (struct kept){.next = restore->kept, .message = message};
	restore->kept = kept;
}

void restore_files_set_running(struct restore_files *restore)
{
	restore->is_running = true;
}

bool restore_is_running(const struct restore_files *restore)
{
	return restore->is_running;
}

void restore_files_keep_made(struct restore_files *restore)
{
	while (restore->made_count > 0)
		free(restore->made[--restore->made_count]);
}

bool restore_note(struct restore_files *restore, FdTypes type, uint64_t key, uint64_t value)
{
	return number_map_add(restore->notes, type, key, value);
}

bool restore_noted(const struct restore_files *restore, FdTypes type, uint64_t key, uint64_t *ret_value)
{
	return number_map_find(restore->notes, type, key, ret_value);
}

void restore_files_set_task(struct restore_files *restore, const struct restore_task *task)
{
	restore->task = *task;
}

const struct restore_task *restore_task(const struct restore_files *restore)
{
	return restore->task.process ? &restore->task : NULL;
}

void restore_files_set_finder(struct restore_files *restore, restore_find_task *find, void *context)
{
	restore->find_task = find;
	restore->find_context = context;
}

struct process *restore_task_by_pid(const struct restore_files *restore, pid_t own_pid)
{
	return restore->find_task ? restore->find_task(own_pid, restore->find_context) : NULL;
}

void restore_note_place(struct restore_files *restore, uint32_t id, int pidfd, int fd)
{
	number_map_add(restore->places, id, 0, (uint64_t)pidfd << 32 | (uint32_t)fd);
}

struct error *restore_copy_placed(const struct restore_files *restore, uint32_t id, bool *ret_is_placed, int *ret_fd)
{
	uint64_t place;

	*ret_is_placed = number_map_find(restore->places, id, 0, &place);
	if (!*ret_is_placed)
		return NULL;
	*ret_fd = (int)syscall(SYS_pidfd_getfd, (int)(place >> 32), (int)(uint32_t)place, 0);
	return *ret_fd < 0 ? error_new(errno, "pidfd_getfd(%d)", (int)(uint32_t)place) : NULL;
}

void restore_note_made(struct restore_files *restore, const char *path)
{
	size_t count = restore->made_count + 1;

	restore->made = xrealloc(restore->made, count * sizeof(*restore->made));
	restore->made[restore->made_count] = xformat("%s", path);
	restore->made_count = count;
}

void restore_files_watch_folders(struct restore_files *restore, restore_folder_watch *watch, void *context)
{
	restore->folder_watch = watch;
	restore->folder_context = context;
}

struct error *restore_note_folder(struct restore_files *restore, const char *path)
{
	if (restore->folder_watch)
		TRY(restore->folder_watch(path, restore->folder_context));
	restore_note_made(restore, path);
	return NULL;
}

const struct image_store *restore_store(const struct restore_files *restore)
{
	return restore->store;
}

const struct carry_options *restore_options(const struct restore_files *restore)
{
	return restore->options;
}

int restore_spare_take(struct restore_files *restore, FdTypes type, uint64_t key)
{
	uint64_t fd;

	return number_map_remove(restore->spares, type, key, &fd) ? (int)fd : -1;
}

int restore_spare_borrow(const struct restore_files *restore, FdTypes type, uint64_t key)
{
	uint64_t fd;

	return number_map_find(restore->spares, type, key, &fd) ? (int)fd : -1;
}

void restore_spare_give(struct restore_files *restore, FdTypes type, uint64_t key, int fd)
{
	auto_fd int old = restore_spare_take(restore, type, key);

	number_map_add(restore->spares, type, key, (uint64_t)fd);
}

static struct error *make_index(struct restore_files *restore, enum image_kind kind,
                                uint64_t (*key_of)(const ProtobufCMessage *message))
{
	auto_number_map struct number_map *index = number_map_new();
	size_t count = image_count(restore->store, kind, 0);

	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *message;

		TRY(image_get(restore->store, kind, 0, i, &message));
		number_map_add(index, key_of(message), 0, i); /* of two with the same key the first is found */
		protobuf_c_message_free_unpacked(message, NULL);
	}
	restore->indexes[kind] = take(index);
	return NULL;
}

struct error *restore_find(struct restore_files *restore, enum image_kind kind,
                           uint64_t (*key_of)(const ProtobufCMessage *message), uint64_t key, bool *ret_is_found,
                           size_t *ret_index)
{
	uint64_t index;

	if (!restore->indexes[kind])
		TRY(make_index(restore, kind, key_of));
	*ret_is_found = number_map_find(restore->indexes[kind], key, 0, &index);
	if (*ret_is_found)
		*ret_index = index;
	return NULL;
}

void restore_replace(struct restore_files *restore, enum image_kind kind, uint64_t key, ProtobufCMessage *message)
{
	restore_keep(restore, message);
	number_map_add(restore->replaced, kind, key, (uintptr_t)message);
}

ProtobufCMessage *restore_replacement(const struct restore_files *restore, enum image_kind kind, uint64_t key)
{
	uint64_t value;

	if (!number_map_find(restore->replaced, kind, key, &value))
		return NULL;
	const ProtobufCMessage *message =
		(const ProtobufCMessage *)(uintptr_t)value; /* NOLINT(performance-no-int-to-ptr): one of ours */
	size_t size_bytes = protobuf_c_message_get_packed_size(message);
	auto_free uint8_t *bytes = xalloc(size_bytes + 1);
	protobuf_c_message_pack(message, bytes);
	return protobuf_c_message_unpack(message->descriptor, NULL, size_bytes, bytes);
}

static uint64_t entry_key(const ProtobufCMessage *message)
{
	return ((const FileEntry *)message)->id;
}

struct error *restore_file_entry(struct restore_files *restore, uint32_t id, FileEntry **ret_entry)
{
	bool is_found;
	size_t index;
	ProtobufCMessage *message = restore_replacement(restore, IMAGE_FILES, id);

	*ret_entry = (FileEntry *)message;
	if (message)
		return NULL;
	TRY(restore_find(restore, IMAGE_FILES, entry_key, id, &is_found, &index));
	if (!is_found)
		return error_new(EBADMSG, "files.img has no file %#x", id);
	TRY(image_get(restore->store, IMAGE_FILES, 0, index, &message));
	*ret_entry = (FileEntry *)message;
	return NULL;
}

struct error *restore_nth_file_entry(struct restore_files *restore, size_t index, FileEntry **ret_entry)
{
	ProtobufCMessage *message;

	TRY(image_get(restore->store, IMAGE_FILES, 0, index, &message));
	ProtobufCMessage *other = restore_replacement(restore, IMAGE_FILES, ((const FileEntry *)message)->id);
	if (other)
		protobuf_c_message_free_unpacked(message, NULL);
	*ret_entry = (FileEntry *)(other ? other : message);
	return NULL;
}
