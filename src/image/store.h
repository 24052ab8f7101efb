/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A set of images in memory: all that is known of a saved program but its pages.
 *
 * Saving puts messages in, restoring gets them out; a directory in CRIU's layout and a stream between two hosts are
 * two ways to move a whole store. So no file is written while a program is frozen, and who saves or restores an object
 * doesn't know where the images come from or go to.
 *
 * An image is named by its kind and an id (0 where its file name has none) and holds messages, each with raw bytes
 * behind it where the kind has such (the content of a pipe, of a socket's queues, of a deleted file).
 *
 * A store isn't guarded by a lock: one thread at a time.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

/* The kinds in use; the table in kinds.c says name, magic, message and how many raw bytes follow a message. */
enum image_kind {
	IMAGE_INVENTORY,
	IMAGE_PSTREE,
	IMAGE_CORE,
	IMAGE_IDS,
	IMAGE_MM,
	IMAGE_FILES,
	IMAGE_FDINFO,
	IMAGE_FS,
	IMAGE_PIPES_DATA,
	IMAGE_FIFO_DATA,
	IMAGE_SK_QUEUES,
	IMAGE_TCP_STREAM,
	IMAGE_GHOST_FILE,
	IMAGE_REMAP_FPATH,
	IMAGE_FILE_LOCKS,
	IMAGE_MEMFD,
	IMAGE_TTY_INFO,
	IMAGE_TTY_DATA,
	IMAGE_SECCOMP,
	IMAGE_TIMENS,
	IMAGE_IPC_MSG,
	IMAGE_IPC_SEM,
	IMAGE_IPC_SHM,
	IMAGE_FILE_EXTRA,    /* ours: what CRIU's messages of files have no field for */
	IMAGE_MEMORY_EXTRA,  /* ours: what CRIU's messages of memory have no field for */
	IMAGE_SHARED_MEMORY, /* ours: sizes of anonymous shared memory */
	IMAGE_GODWIT_SOCKETS,
	IMAGE_GODWIT_DATAGRAMS, /* ours: what waits in UDP sockets */
	IMAGE_GODWIT_SYSV,      /* ours: what CRIU's messages of System V objects have no field for */
	IMAGE_GODWIT_CALLS,     /* ours: system calls that were interrupted */
	IMAGE_GODWIT_PROCESSOR, /* ours: what the processor could do */
	IMAGE_GODWIT_CLOCKS,    /* ours: what the clocks of the program showed */
	IMAGE_GODWIT_THREADS,   /* ours: what the core image has no field for */
	IMAGE_STATS_DUMP,       /* in a store of its own: it may go to another directory than the program's images */
	IMAGE_STATS_RESTORE,
	IMAGE_KIND_COUNT,
};

/* In the names of IMAGE_IPC_…: a program has objects of one IPC namespace, that of its host. */
enum { IPC_NAMESPACE_ID = 1 };

struct image_store;

struct image_store *image_store_new(void);
void image_store_free(struct image_store *store);
DEFINE_OWNED(struct image_store *, image_store_free)
#define auto_image_store AUTO(image_store_free)

/* Appends a message to an image, which comes into being with its first one. Borrows message for the call. All messages
 * of a kind have one type; only behind the first of IMAGE_GHOST_FILE, if it says so, ghost_chunk_entries follow. */
void image_put(struct image_store *store, enum image_kind kind, uint64_t id, const ProtobufCMessage *message);

/* Appends raw bytes behind the image's last message, in any pieces. The message says how many there are in the end. */
void image_put_bytes(struct image_store *store, enum image_kind kind, uint64_t id, const void *bytes,
                     size_t size_bytes);

/* The number of messages; 0 where there is no such image. */
size_t image_count(const struct image_store *store, enum image_kind kind, uint64_t id);

/*
 * Message number index, unpacked. The caller frees it with its own type's free_unpacked. Where there is no such
 * message the error names the file. A message comes from an image: it is well-formed protobuf, nothing else holds.
 */
MUST_USE struct error *image_get(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index,
                                 ProtobufCMessage **ret_message);

/* The raw bytes behind message number index; 0 bytes where it has none. Borrowed from the store. */
void image_get_bytes(const struct image_store *store, enum image_kind kind, uint64_t id, size_t index,
                     const uint8_t **ret_bytes, size_t *ret_size_bytes);

/* Writes each image as a file into a directory, and fsyncs them and it. An image that exists is an error, but for
 * statistics. On failure none of them stays. The inventory comes last: a directory without it isn't complete. */
MUST_USE struct error *image_store_write(const struct image_store *store, int dir_fd);

/* Reads all images of the kinds above from a directory, but no statistics. Checks magics, lengths and that messages are
 * well-formed. Other files are left alone. */
MUST_USE struct error *image_store_read(int dir_fd, struct image_store **ret_store);

/* One image of a store as the bytes of its file, for a stream: see image_store_add(). */
struct image_file {
	enum image_kind kind;
	uint64_t id;
	const uint8_t *bytes; /* borrowed from the store, until the next put: everything behind the magics */
	size_t size_bytes;
};

/* Image number n of the store, in the order they came into being. False: there are not so many. */
bool image_store_file(const struct image_store *store, size_t n, struct image_file *ret_file);

/* Puts a whole image, as image_store_file() gave it on another host, into a store. Checked like a file. */
MUST_USE struct error *image_store_add(struct image_store *store, const struct image_file *file);
