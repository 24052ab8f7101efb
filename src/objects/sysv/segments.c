/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "objects/sysv/segments.h"
#include "util/alloc.h"

/* ---- Saving ---- */

static bool is_there(const struct image_store *store, uint32_t id)
{
	for (size_t i = 0; i < image_count(store, IMAGE_IPC_SHM, IPC_NAMESPACE_ID); i++) {
		ProtobufCMessage *message = NULL;

		error_free(image_get(store, IMAGE_IPC_SHM, IPC_NAMESPACE_ID, i, &message));
		bool is_same = message && ((const IpcShmEntry *)message)->desc->id == id;
		if (message)
			protobuf_c_message_free_unpacked(message, NULL);
		if (is_same)
			return true;
	}
	return false;
}

/* "/SYSV000004d2": the key that it was made with. One that has been removed has none any more, but keeps the name. */
static uint32_t key_of_name(const char *path)
{
	return (uint32_t)strtoul(path + strlen("/SYSV"), NULL, 16);
}

struct error *segment_save(uint32_t id, const char *name, uint32_t hugetlb_flag, const struct sysv_users *users,
                           struct image_store *store)
{
	IpcShmEntry entry = IPC_SHM_ENTRY__INIT;
	IpcDescEntry desc;
	struct shmid_ds segment;

	if (is_there(store, id))
		return NULL;
	if (shmctl((int)id, IPC_STAT, &segment) < 0)
		return error_new(errno, "shmctl(%u)", id);
	sysv_describe(&segment.shm_perm, id, &desc);
	if (desc.mode & SHM_DEST)
		desc.key = key_of_name(name);
	entry.desc = &desc;
	entry.size = segment.shm_segsz;
	entry.has_in_pagemaps = entry.in_pagemaps = true;
	entry.has_hugetlb_flag = hugetlb_flag != 0;
	entry.hugetlb_flag = hugetlb_flag;
	image_put(store, IMAGE_IPC_SHM, IPC_NAMESPACE_ID, &entry.base);
	uint32_t creator = sysv_own_pid(users, segment.shm_cpid);
	const struct sysv_extra extra = {
		.changed_s = (uint64_t)segment.shm_ctime,
		.pids = &creator,
		.pid_count = 1,
	};
	sysv_put_extra(SYSV_SEGMENT, id, &extra, store);
	return NULL;
}

/* ---- Making ---- */

struct error *segments_find(const struct image_store *store, uint32_t id, IpcShmEntry **ret_entry)
{
	for (size_t i = 0; i < image_count(store, IMAGE_IPC_SHM, IPC_NAMESPACE_ID); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_IPC_SHM, IPC_NAMESPACE_ID, i, &message));
		*ret_entry = (IpcShmEntry *)message;
		if ((*ret_entry)->desc->id == id)
			return NULL;
		ipc_shm_entry__free_unpacked(*ret_entry, NULL);
	}
	return error_new(EBADMSG, "System V shared memory %u, of which the images don't tell", id);
}

/* That of one that has been removed may be another's by now: then only its name in maps is another one. */
static uint32_t key_to_make(const IpcDescEntry *desc)
{
	bool is_taken = desc->mode & SHM_DEST && desc->key != IPC_PRIVATE && shmget((key_t)desc->key, 0, 0) >= 0;

	return is_taken ? IPC_PRIVATE : desc->key;
}

struct error *segment_make(struct process *task, const IpcShmEntry *entry)
{
	const struct arg arguments[3] = {
		val(key_to_make(entry->desc)),
		val(entry->size),
		val(sysv_flags(entry->desc) | (entry->has_hugetlb_flag ? entry->hugetlb_flag : 0)),
	};

	return error_hint(sysv_create(task, SYSV_SEGMENT, entry->desc, arguments),
	                  "ipcs -m shows what is there, ipcs -lm the limits of this host");
}

/* As what it is: a file, by the name that a mapping gives it. */
struct error *segment_open(uint32_t id, int *ret_fd)
{
	struct shmid_ds segment;
	void *at = shmat((int)id, NULL, 0);

	if (at == (void *)-1)
		return error_new(errno, "shmat(%u)", id);
	int r = shmctl((int)id, IPC_STAT, &segment);
	uint64_t page = 4096;
	uint64_t end = (uint64_t)(uintptr_t)at + ((segment.shm_segsz + page - 1) & ~(page - 1));
	auto_free char *path = xformat("/proc/self/map_files/%" PRIxPTR "-%" PRIx64, (uintptr_t)at, end);
	int fd = r < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
	int open_errno = errno;
	shmdt(at);
	if (fd < 0)
		return error_hint(error_new(open_errno, "open System V shared memory %u by %s", id, path),
		                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this");
	*ret_fd = fd;
	return NULL;
}

struct error *segment_finish(const IpcShmEntry *entry)
{
	TRY(sysv_set_owner(SYSV_SEGMENT, entry->desc));
	if (entry->desc->mode & SHM_LOCKED && shmctl((int)entry->desc->id, SHM_LOCK, NULL) < 0)
		return error_new(errno, "lock System V shared memory %u", entry->desc->id);
	return entry->desc->mode & SHM_DEST ? sysv_remove(SYSV_SEGMENT, entry->desc->id) : NULL;
}
