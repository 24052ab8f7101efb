/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <inttypes.h>

#include "core.pb-c.h"
#include "fdinfo.pb-c.h"
#include "file-extra.pb-c.h"
#include "file-lock.pb-c.h"
#include "fs.pb-c.h"
#include "ghost-file.pb-c.h"
#include "godwit-calls.pb-c.h"
#include "godwit-clocks.pb-c.h"
#include "godwit-datagrams.pb-c.h"
#include "godwit-ipc.pb-c.h"
#include "godwit-memory.pb-c.h"
#include "godwit-needs.pb-c.h"
#include "godwit-sockets.pb-c.h"
#include "godwit-thread.pb-c.h"
#include "image/kinds.h"
#include "inventory.pb-c.h"
#include "ipc-msg.pb-c.h"
#include "ipc-sem.pb-c.h"
#include "ipc-shm.pb-c.h"
#include "mm.pb-c.h"
#include "pipe-data.pb-c.h"
#include "pstree.pb-c.h"
#include "remap-file-path.pb-c.h"
#include "seccomp.pb-c.h"
#include "sk-packet.pb-c.h"
#include "stats.pb-c.h"
#include "tcp-stream.pb-c.h"
#include "timens.pb-c.h"

/* What stands before a kind's own magic. */
enum framing {
	FRAMING_COMMON,  /* the word of all images since CRIU 2.0 */
	FRAMING_NONE,    /* inventory.img, which tells whether the others have that word */
	FRAMING_SERVICE, /* see image_is_service() */
};

static const uint32_t common_magic = 0x54564319;
static const uint32_t service_magic = 0x55105940;

struct kind {
	const char *name; /* of the file; %u: the id in decimal, %x: in hexadecimal digits */
	uint32_t magic;
	enum framing framing;
	const ProtobufCMessageDescriptor *message;
	const ProtobufCMessageDescriptor *later; /* of all messages but the first, where they are others */
	uint64_t (*raw_bytes)(const ProtobufCMessage *message); /* NULL: none */
};

static uint64_t pipe_data_bytes(const ProtobufCMessage *message)
{
	return ((const PipeDataEntry *)message)->bytes;
}

static uint64_t packet_bytes(const ProtobufCMessage *message)
{
	return ((const SkPacketEntry *)message)->length;
}

static uint64_t tcp_stream_bytes(const ProtobufCMessage *message)
{
	const TcpStreamEntry *stream = (const TcpStreamEntry *)message;

	return (uint64_t)stream->inq_len + stream->outq_len;
}

/* A deleted file's content stands behind the first message, or in chunks behind messages of their own. */
static uint64_t ghost_bytes(const ProtobufCMessage *message)
{
	if (message->descriptor == &ghost_chunk_entry__descriptor)
		return ((const GhostChunkEntry *)message)->len;
	return ((const GhostFileEntry *)message)->chunks ? 0 : image_raw_rest;
}

/* Up to a multiple of 8. */
static uint64_t padded(uint64_t bytes)
{
	return (bytes + 7) & ~UINT64_C(7);
}

static uint64_t text_bytes(const ProtobufCMessage *message)
{
	return message->descriptor == &ipc_msg__descriptor ? padded(((const IpcMsg *)message)->msize) : 0;
}

static uint64_t values_bytes(const ProtobufCMessage *message)
{
	return padded(((const IpcSemEntry *)message)->nsems * sizeof(uint16_t));
}

static const struct kind kinds[IMAGE_KIND_COUNT] = {
	[IMAGE_INVENTORY] = {.name = "inventory.img",
                             .magic = 0x58313116,
                             .message = &inventory_entry__descriptor,
                             .framing = FRAMING_NONE},
	[IMAGE_PSTREE] = {.name = "pstree.img", .magic = 0x50273030, .message = &pstree_entry__descriptor},
	[IMAGE_CORE] = {.name = "core-%u.img", .magic = 0x55053847, .message = &core_entry__descriptor},
	[IMAGE_IDS] = {.name = "ids-%u.img", .magic = 0x54432030, .message = &task_kobj_ids_entry__descriptor},
	[IMAGE_MM] = {.name = "mm-%u.img", .magic = 0x57492820, .message = &mm_entry__descriptor},
	[IMAGE_FILES] = {.name = "files.img", .magic = 0x56303138, .message = &file_entry__descriptor},
	[IMAGE_FDINFO] = {.name = "fdinfo-%u.img", .magic = 0x56213732, .message = &fdinfo_entry__descriptor},
	[IMAGE_FS] = {.name = "fs-%u.img", .magic = 0x51403912, .message = &fs_entry__descriptor},
	[IMAGE_PIPES_DATA] = {.name = "pipes-data.img",
                              .magic = 0x56453709,
                              .message = &pipe_data_entry__descriptor,
                              .raw_bytes = pipe_data_bytes},
	[IMAGE_FIFO_DATA] = {.name = "fifo-data.img",
                             .magic = 0x59333054,
                             .message = &pipe_data_entry__descriptor,
                             .raw_bytes = pipe_data_bytes},
	[IMAGE_SK_QUEUES] = {.name = "sk-queues.img",
                             .magic = 0x56264026,
                             .message = &sk_packet_entry__descriptor,
                             .raw_bytes = packet_bytes},
	[IMAGE_TCP_STREAM] = {.name = "tcp-stream-%x.img",
                              .magic = 0x51465506,
                              .message = &tcp_stream_entry__descriptor,
                              .raw_bytes = tcp_stream_bytes},
	[IMAGE_GHOST_FILE] = {.name = "ghost-file-%x.img",
                              .magic = 0x52583605,
                              .message = &ghost_file_entry__descriptor,
                              .later = &ghost_chunk_entry__descriptor,
                              .raw_bytes = ghost_bytes},
	[IMAGE_REMAP_FPATH] = {.name = "remap-fpath.img",
                               .magic = 0x59133954,
                               .message = &remap_file_path_entry__descriptor},
	[IMAGE_FILE_LOCKS] = {.name = "filelocks.img", .magic = 0x54323616, .message = &file_lock_entry__descriptor},
	[IMAGE_MEMFD] = {.name = "memfd.img", .magic = 0x48453499, .message = &memfd_inode_entry__descriptor},
	[IMAGE_TTY_INFO] = {.name = "tty-info.img", .magic = 0x59453036, .message = &tty_info_entry__descriptor},
	[IMAGE_TTY_DATA] = {.name = "tty-data.img", .magic = 0x59413026, .message = &tty_data_entry__descriptor},
	[IMAGE_SECCOMP] = {.name = "seccomp.img", .magic = 0x64413049, .message = &seccomp_entry__descriptor},
	[IMAGE_TIMENS] = {.name = "timens-%u.img", .magic = 0x43114433, .message = &timens_entry__descriptor},
	/* One for each queue: CRIU has all in one, where messages follow their queue. */
	[IMAGE_IPC_MSG] = {.name = "ipcns-msg-%u.img",
                           .magic = 0x55453737,
                           .message = &ipc_msg_entry__descriptor,
                           .later = &ipc_msg__descriptor,
                           .raw_bytes = text_bytes},
	[IMAGE_IPC_SEM] = {.name = "ipcns-sem-%u.img",
                           .magic = 0x59573019,
                           .message = &ipc_sem_entry__descriptor,
                           .raw_bytes = values_bytes},
	[IMAGE_IPC_SHM] = {.name = "ipcns-shm-%u.img", .magic = 0x46283044, .message = &ipc_shm_entry__descriptor},
	[IMAGE_FILE_EXTRA] = {.name = "file-extra.godwit",
                              .magic = 0x47574658,
                              .message = &file_extra_entry__descriptor},
	[IMAGE_MEMORY_EXTRA] = {.name = "memory-%u.godwit",
                                .magic = 0x47574d58,
                                .message = &memory_extra_entry__descriptor},
	[IMAGE_SHARED_MEMORY] = {.name = "shared-memory.godwit",
                                 .magic = 0x47575348,
                                 .message = &shared_memory_entry__descriptor},
	/* Ours: CRIU and crit look at *.img only. */
	[IMAGE_GODWIT_SOCKETS] = {.name = "sockets.godwit",
                                  .magic = 0x47445754,
                                  .message = &godwit_socket_entry__descriptor},
	[IMAGE_GODWIT_DATAGRAMS] = {.name = "datagrams-%x.godwit",
                                    .magic = 0x47444447,
                                    .message = &godwit_datagram__descriptor},
	[IMAGE_GODWIT_CALLS] = {.name = "calls-%u.godwit",
                                .magic = 0x47574341,
                                .message = &godwit_call_entry__descriptor},
	[IMAGE_GODWIT_THREADS] = {.name = "threads-%u.godwit",
                                  .magic = 0x47445448,
                                  .message = &godwit_thread_entry__descriptor},
	[IMAGE_GODWIT_PROCESSOR] = {.name = "cpu.godwit",
                                    .magic = 0x47637075,
                                    .message = &godwit_processor__descriptor},
	[IMAGE_GODWIT_SYSV] = {.name = "sysv.godwit", .magic = 0x47575356, .message = &godwit_sysv_entry__descriptor},
	[IMAGE_GODWIT_CLOCKS] = {.name = "clocks.godwit",
                                 .magic = 0x4757434b,
                                 .message = &godwit_clocks_entry__descriptor},
	[IMAGE_STATS_DUMP] = {.name = "stats-dump",
                              .magic = 0x57093306,
                              .message = &stats_entry__descriptor,
                              .framing = FRAMING_SERVICE},
	[IMAGE_STATS_RESTORE] = {.name = "stats-restore",
                                 .magic = 0x57093306,
                                 .message = &stats_entry__descriptor,
                                 .framing = FRAMING_SERVICE},
};

bool image_has_id(enum image_kind kind)
{
	return strchr(kinds[kind].name, '%') != NULL;
}

void image_file_name(enum image_kind kind, uint64_t id, char ret_name[IMAGE_NAME_MAX])
{
	const char *name = kinds[kind].name;
	int prefix = (int)strcspn(name, "%");

	if (!name[prefix])
		snprintf(ret_name, IMAGE_NAME_MAX, "%s", name);
	else if (name[prefix + 1] == 'x')
		snprintf(ret_name, IMAGE_NAME_MAX, "%.*s%" PRIx64 "%s", prefix, name, id, &name[prefix + 2]);
	else
		snprintf(ret_name, IMAGE_NAME_MAX, "%.*s%" PRIu64 "%s", prefix, name, id, &name[prefix + 2]);
}

bool image_of_file_name(const char *name, enum image_kind *ret_kind, uint64_t *ret_id)
{
	char expected[IMAGE_NAME_MAX];

	for (enum image_kind kind = 0; kind < IMAGE_KIND_COUNT; kind++) {
		const char *pattern = kinds[kind].name;
		size_t prefix = strcspn(pattern, "%");
		uint64_t id = 0;

		if (strncmp(name, pattern, prefix) != 0)
			continue;
		if (pattern[prefix])
			id = strtoull(name + prefix, NULL, pattern[prefix + 1] == 'x' ? 16 : 10);

		/* One name for each image: no leading zeros, signs, or numbers that are too large. */
		image_file_name(kind, id, expected);
		if (strcmp(name, expected) != 0)
			continue;
		*ret_kind = kind;
		*ret_id = id;
		return true;
	}
	return false;
}

size_t image_magics(enum image_kind kind, uint32_t ret_magics[IMAGE_MAGICS_MAX])
{
	size_t count = 0;

	if (kinds[kind].framing != FRAMING_NONE)
		ret_magics[count++] = kinds[kind].framing == FRAMING_SERVICE ? service_magic : common_magic;
	ret_magics[count++] = kinds[kind].magic;
	return count;
}

bool image_is_service(enum image_kind kind)
{
	return kinds[kind].framing == FRAMING_SERVICE;
}

const ProtobufCMessageDescriptor *image_message(enum image_kind kind, size_t index)
{
	assert(kind < IMAGE_KIND_COUNT);
	return index > 0 && kinds[kind].later ? kinds[kind].later : kinds[kind].message;
}

uint64_t image_raw_bytes(enum image_kind kind, const ProtobufCMessage *message)
{
	return kinds[kind].raw_bytes ? kinds[kind].raw_bytes(message) : 0;
}
