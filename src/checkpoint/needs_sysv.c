/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "checkpoint/needs_sysv.h"
#include "ipc-msg.pb-c.h"
#include "ipc-sem.pb-c.h"
#include "ipc-shm.pb-c.h"
#include "memory/maps.h"
#include "objects/sysv/sysv.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* ---- Reading ---- */

static struct error *add(const struct image_store *store, enum sysv_kind kind, const IpcDescEntry *desc,
                         GodwitNeeds *needs)
{
	GodwitNeededSysv *needed = xalloc(sizeof(*needed));
	GodwitSysvEntry *extra;

	godwit_needed_sysv__init(needed);
	needs->sysv = xrealloc(needs->sysv, (needs->n_sysv + 1) * sizeof(GodwitNeededSysv *));
	needs->sysv[needs->n_sysv++] = needed;
	needed->kind = kind;
	needed->id = desc->id;
	needed->key = kind == SYSV_SEGMENT && desc->mode & SHM_DEST ? (uint32_t)IPC_PRIVATE : desc->key;
	needed->cuid = desc->cuid;
	TRY(sysv_get_extra(store, kind, desc->id, &extra));
	needed->has_changed_s = extra->has_changed_s;
	needed->changed_s = extra->changed_s;
	needed->space = take(extra->space);
	godwit_sysv_entry__free_unpacked(extra, NULL);
	return NULL;
}

/* Message number index of an image, which has a description of its own. */
static const IpcDescEntry *desc_of(enum sysv_kind kind, const ProtobufCMessage *message)
{
	switch (kind) {
	case SYSV_SEGMENT:
		return ((const IpcShmEntry *)message)->desc;
	case SYSV_SEMAPHORES:
		return ((const IpcSemEntry *)message)->desc;
	case SYSV_QUEUE:
		return ((const IpcMsgEntry *)message)->desc;
	case SYSV_KIND_COUNT:
		break;
	}
	return NULL;
}

static struct error *add_message(const struct image_store *store, enum sysv_kind kind, enum image_kind image,
                                 uint64_t id, size_t index, GodwitNeeds *needs)
{
	ProtobufCMessage *message;

	TRY(image_get(store, image, id, index, &message));
	struct error *error = add(store, kind, desc_of(kind, message), needs);
	protobuf_c_message_free_unpacked(message, NULL);
	return error;
}

struct error *needs_sysv_add(const struct image_store *store, GodwitNeeds *needs)
{
	const uint64_t first = IPC_NAMESPACE_ID;

	for (size_t i = 0; i < image_count(store, IMAGE_IPC_SHM, first); i++)
		TRY(add_message(store, SYSV_SEGMENT, IMAGE_IPC_SHM, first, i, needs));
	for (size_t i = 0; i < image_count(store, IMAGE_IPC_SEM, first); i++)
		TRY(add_message(store, SYSV_SEMAPHORES, IMAGE_IPC_SEM, first, i, needs));
	for (uint64_t id = first; image_count(store, IMAGE_IPC_MSG, id) > 0; id++)
		TRY(add_message(store, SYSV_QUEUE, IMAGE_IPC_MSG, id, 0, needs));
	return NULL;
}

/* ---- Checking ---- */

static bool has_attached(pid_t pid, uint32_t id)
{
	auto_free char *maps = NULL;
	char *rest = NULL;
	bool has_it = false;

	if (procfs_read(pid, "maps", &maps, NULL) < 0 || !strstr(maps, "/SYSV"))
		return false;
	for (char *line = strtok_r(maps, "\n", &rest); line && !has_it; line = strtok_r(NULL, "\n", &rest)) {
		struct area area;

		if (!strstr(line, "/SYSV") || maps_parse_line(line, &area) < 0)
			continue;
		has_it = area.inode == id;
		free(area.path);
	}
	return has_it;
}

/* ", attached by process 7 (postgres)"; the caller frees. */
static char *holders_of(const GodwitNeededSysv *needed, uint32_t id)
{
	auto_free int *pids = NULL;
	size_t count = 0;
	char *text = xformat("%s", "");

	if (needed->kind != SYSV_SEGMENT || procfs_numbers(getpid(), "..", &pids, &count) < 0)
		return text;
	for (size_t i = 0; i < count; i++) {
		auto_free char *before = NULL;
		auto_free char *comm = NULL;

		if (!has_attached(pids[i], id) || procfs_read(pids[i], "comm", &comm, NULL) < 0)
			continue;
		before = text;
		text = xformat("%s%s %d (%.*s)", before, *before ? "," : ", attached by process", pids[i],
		               (int)strcspn(comm, "\n"), comm);
	}
	return text;
}

static struct error *taken(const GodwitNeededSysv *needed, uint32_t id, const char *what)
{
	auto_free char *holders = holders_of(needed, id);
	auto_free char *removal = sysv_removal(needed->kind, id);

	return error_hint(error_new(EEXIST, "%s %u of the program: its %s is in use here by %u%s",
	                            sysv_name(needed->kind), needed->id, what, id, holders),
	                  "end what uses that or, if it is of no use any more: %s", removal);
}

static int id_of_key(enum sysv_kind kind, uint32_t key)
{
	switch (kind) {
	case SYSV_SEGMENT:
		return shmget((key_t)key, 0, 0);
	case SYSV_SEMAPHORES:
		return semget((key_t)key, 0, 0);
	case SYSV_QUEUE:
		return msgget((key_t)key, 0);
	case SYSV_KIND_COUNT:
		break;
	}
	return -1;
}

/* The program has left it when it ended. */
static bool is_left(const GodwitNeededSysv *needed, uint32_t id)
{
	const IpcDescEntry desc = {.key = needed->key, .cuid = needed->cuid};
	const GodwitSysvEntry extra = {.changed_s = needed->changed_s, .space = needed->space};
	struct sysv_look there;

	return id == needed->id && sysv_look(needed->kind, id, &there) == 0 && sysv_is_left(&there, &desc, &extra);
}

static struct error *check(const GodwitNeededSysv *needed)
{
	auto_free int *ids = NULL;
	size_t count;

	if (needed->kind >= SYSV_KIND_COUNT)
		return error_new(EBADMSG, "System V object of kind %u", needed->kind);
	sysv_list(needed->kind, &ids, &count);
	for (size_t i = 0; i < count; i++)
		if (sysv_is_same_place((uint32_t)ids[i], needed->id) && !is_left(needed, (uint32_t)ids[i]))
			return taken(needed, (uint32_t)ids[i], "id");
	int id = needed->key == IPC_PRIVATE ? -1 : id_of_key(needed->kind, needed->key);
	return id >= 0 && !is_left(needed, (uint32_t)id) ? taken(needed, (uint32_t)id, "key") : NULL;
}

void needs_sysv_check(const GodwitNeeds *needs, struct problems *problems)
{
	for (size_t i = 0; i < needs->n_sysv; i++)
		problems_add(problems, check(needs->sysv[i]));
}
