/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>

#include "objects/sysv/queues.h"
#include "util/alloc.h"
#include "util/negative_errno.h"

enum { SENDER, RECEIVER, USERS };
enum { SMALL_BYTES = 1024 /* of a message that a batch has room for */ };

struct message {
	long type;
	char text[];
};

int queue_users(uint32_t id, pid_t ret_pids[USERS])
{
	struct msqid_ds queue;

	if (msgctl((int)id, IPC_STAT, &queue) < 0)
		return negative_errno();
	ret_pids[SENDER] = queue.msg_lspid;
	ret_pids[RECEIVER] = queue.msg_lrpid;
	return 0;
}

/* ---- Saving ---- */

/* Number n of those that wait. */
static struct error *save_message(uint32_t id, uint64_t image_id, size_t n, size_t room_bytes,
                                  struct image_store *store)
{
	auto_free struct message *message = xalloc(sizeof(*message) + sysv_padded(room_bytes) + 1);
	ssize_t size = msgrcv((int)id, message, room_bytes, (long)n, MSG_COPY | IPC_NOWAIT);
	IpcMsg entry = IPC_MSG__INIT;

	if (size < 0)
		return error_hint(error_new(errno, "message %zu of System V message queue %u", n, id),
		                  "a kernel with CONFIG_CHECKPOINT_RESTORE can copy it");
	entry.mtype = (uint64_t)message->type;
	entry.msize = (uint32_t)size;
	image_put(store, IMAGE_IPC_MSG, image_id, &entry.base);
	image_put_bytes(store, IMAGE_IPC_MSG, image_id, message->text, sysv_padded((size_t)size));
	return NULL;
}

struct error *queue_save(uint32_t id, uint64_t image_id, const struct sysv_users *users, struct image_store *store)
{
	IpcMsgEntry entry = IPC_MSG_ENTRY__INIT;
	struct msqid_ds queue;
	IpcDescEntry desc;

	if (msgctl((int)id, IPC_STAT, &queue) < 0)
		return error_new(errno, "msgctl(%u)", id);
	sysv_describe(&queue.msg_perm, id, &desc);
	entry.desc = &desc;
	entry.qbytes = (uint32_t)queue.msg_qbytes;
	entry.qnum = (uint32_t)queue.msg_qnum;
	image_put(store, IMAGE_IPC_MSG, image_id, &entry.base);
	for (size_t n = 0; n < queue.msg_qnum; n++)
		TRY(save_message(id, image_id, n, queue.__msg_cbytes, store));
	uint32_t own_pids[USERS] = {sysv_own_pid(users, queue.msg_lspid), sysv_own_pid(users, queue.msg_lrpid)};
	const struct sysv_extra extra = {
		.changed_s = (uint64_t)queue.msg_ctime,
		.pids = own_pids,
		.pid_count = USERS,
	};
	sysv_put_extra(SYSV_QUEUE, id, &extra, store);
	return NULL;
}

/* ---- Making ---- */

static struct error *set_limit(const IpcMsgEntry *entry)
{
	struct msqid_ds queue = {
		.msg_perm = {.uid = entry->desc->uid, .gid = entry->desc->gid, .mode = entry->desc->mode & 0777},
		.msg_qbytes = entry->qbytes,
	};

	if (msgctl((int)entry->desc->id, IPC_SET, &queue) < 0)
		return error_hint(
			error_new(errno, "System V message queue %u of %u bytes", entry->desc->id, entry->qbytes),
			"sysctl kernel.msgmnb");
	return NULL;
}

struct making {
	const IpcMsgEntry *entry;
	const struct image_store *store;
	uint64_t image_id;
	uint32_t pids[USERS];
	const struct sysv_makers *makers;
};

static struct error *send_here(uint32_t id, const struct message *message, size_t size_bytes)
{
	if (msgsnd((int)id, message, size_bytes, IPC_NOWAIT) == 0)
		return NULL;
	return error_hint(error_new(errno, "message of %zu bytes", size_bytes), "sysctl kernel.msgmax");
}

/* By a process of the program, so that it is the last sender. */
static struct error *send_there(const struct making *making, const struct message *message, size_t size_bytes)
{
	struct process *sender = making->makers->find(making->makers, making->pids[SENDER]);
	auto_batch struct batch *batch = process_batch(sender, 0);

	batch_about(batch, "System V message queue", making->entry->desc->id);
	batch_call(batch, msgsnd, val(making->entry->desc->id),
	           batch_bytes(batch, message, sizeof(*message) + size_bytes), val(size_bytes), val(IPC_NOWAIT));
	return process_run(sender, batch);
}

/* Number n of the image, where 0 is the queue itself. */
static struct error *send_message(const struct making *making, size_t n, bool is_there, uint64_t *ret_type)
{
	ProtobufCMessage *unpacked;
	const uint8_t *bytes;
	size_t size_bytes;

	TRY(image_get(making->store, IMAGE_IPC_MSG, making->image_id, n, &unpacked));
	uint64_t type = ((const IpcMsg *)unpacked)->mtype;
	size_t text_bytes = ((const IpcMsg *)unpacked)->msize;
	protobuf_c_message_free_unpacked(unpacked, NULL);
	image_get_bytes(making->store, IMAGE_IPC_MSG, making->image_id, n, &bytes, &size_bytes);
	if (type == 0 || type > LONG_MAX || size_bytes < text_bytes || (is_there && text_bytes > SMALL_BYTES))
		return error_new(EBADMSG, "message of type %llu", (unsigned long long)type);
	auto_free struct message *message = xalloc(sizeof(*message) + text_bytes + 1);
	message->type = (long)type;
	memcpy(message->text, bytes, text_bytes);
	*ret_type = type;
	return is_there ? send_there(making, message, text_bytes)
	                : send_here(making->entry->desc->id, message, text_bytes);
}

/* All but the last left ones. *ret_free_type is one that no message has: of so many and one more there is one. */
static struct error *send_messages(const struct making *making, size_t left, uint64_t *ret_free_type)
{
	size_t count = image_count(making->store, IMAGE_IPC_MSG, making->image_id);
	auto_free bool *is_taken = xalloc(count * sizeof(bool));

	for (size_t n = 1; n + left < count; n++) {
		uint64_t type;

		TRY(send_message(making, n, false, &type), "message %zu", n);
		if (LONG_MAX - type < count)
			is_taken[LONG_MAX - type] = true;
	}
	*ret_free_type = LONG_MAX;
	while (is_taken[LONG_MAX - *ret_free_type])
		--*ret_free_type;
	return NULL;
}

static struct error *take_message(const struct making *making, uint64_t type)
{
	struct process *receiver = making->makers->find(making->makers, making->pids[RECEIVER]);
	auto_batch struct batch *batch = process_batch(receiver, 0);

	batch_about(batch, "System V message queue", making->entry->desc->id);
	batch_call(batch, msgrcv, val(making->entry->desc->id), batch_space(batch, sizeof(struct message)), val(0),
	           val(type), val(IPC_NOWAIT));
	return process_run(receiver, batch);
}

/* The last sender sends one more message, which the last receiver takes. */
static struct error *pass_on(const struct making *making, uint64_t type)
{
	const struct message message = {.type = (long)type};

	TRY(send_there(making, &message, 0));
	return take_message(making, type);
}

/* Where nobody has received any, the last one is the last sender's, if it isn't too large. */
static bool can_end_small(const struct making *making)
{
	size_t count = image_count(making->store, IMAGE_IPC_MSG, making->image_id);
	const uint8_t *bytes;
	size_t size_bytes = 0;

	if (count > 1)
		image_get_bytes(making->store, IMAGE_IPC_MSG, making->image_id, count - 1, &bytes, &size_bytes);
	return count > 1 && making->pids[SENDER] && !making->pids[RECEIVER] && size_bytes <= SMALL_BYTES;
}

static struct error *fill(const struct making *making)
{
	bool ends_small = can_end_small(making);
	uint64_t type;

	TRY(send_messages(making, ends_small, &type));
	if (ends_small)
		return send_message(making, image_count(making->store, IMAGE_IPC_MSG, making->image_id) - 1, true,
		                    &type);
	return making->pids[SENDER] || making->pids[RECEIVER] ? pass_on(making, type) : NULL;
}

static struct error *read_users(struct making *making)
{
	GodwitSysvEntry *extra;

	TRY(sysv_get_extra(making->store, SYSV_QUEUE, making->entry->desc->id, &extra));
	for (size_t i = 0; i < USERS && i < extra->n_pids; i++)
		making->pids[i] = extra->pids[i];
	godwit_sysv_entry__free_unpacked(extra, NULL);
	return NULL;
}

struct error *queue_make(const IpcMsgEntry *entry, uint64_t image_id, const struct image_store *store,
                         const struct sysv_makers *makers)
{
	const struct arg arguments[3] = {val(entry->desc->key), val(sysv_flags(entry->desc)), val(0)};
	struct making making = {.entry = entry, .store = store, .image_id = image_id, .makers = makers};

	TRY(read_users(&making));
	TRY(sysv_create(makers->find(makers, 0), SYSV_QUEUE, entry->desc, arguments));
	/* First, since it may hold more than others; and then still there is room for one more, which is empty. */
	TRY(set_limit(entry));
	return error_wrap(fill(&making), "System V message queue %u", entry->desc->id);
}
