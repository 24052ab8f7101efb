/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The UNIX sockets of an image while they are made again: found by id and inode number, since they need each other, with
 * what has been made of each so far. All of it is kept by restore, as notes and spare descriptors.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/unix_name.h"

/* Keys of what is kept in restore: spare descriptors, and notes. */
enum unix_key {
	UNIX_KEY_SCANNED,  /* note: entries have been looked for */
	UNIX_KEY_COUNT,    /* note: how many there are */
	UNIX_KEY_NTH,      /* note: entry number n */
	UNIX_KEY_INODE,    /* note: the entry with this inode number */
	UNIX_KEY_ID,       /* note: the entry with this id */
	UNIX_KEY_READY,    /* note, by inode: it has its options, is bound, listens */
	UNIX_KEY_FINISHED, /* note: queues are filled */
	UNIX_KEY_HANDLE,   /* spare, by inode: the socket */
	UNIX_KEY_GONE,     /* spare, by inode: its other end, which had been closed */
	UNIX_KEY_RIGHT,    /* spare, by id: a file that was in flight and nowhere else */
};
uint64_t unix_key(enum unix_key kind, uint32_t number);

MUST_USE struct error *unix_entry_check(const UnixSkEntry *entry);

/* Looks for all of them, once. */
MUST_USE struct error *unix_entries_find(struct restore_files *restore);
uint32_t unix_entries_count(const struct restore_files *restore);

/* By UNIX_KEY_NTH, UNIX_KEY_INODE or UNIX_KEY_ID. NULL: there is none. Borrowed. */
const UnixSkEntry *unix_entry_noted(const struct restore_files *restore, enum unix_key kind, uint32_t number);

struct unix_name unix_entry_name(const ProtobufCBinaryData *bytes);

/* Another socket of the same type and name: the listener, or another connection that came in through it. */
const UnixSkEntry *unix_entry_namesake(const struct restore_files *restore, const UnixSkEntry *entry, bool is_listener);

/* With a socket of the program. */
bool unix_entry_is_connected(const UnixSkEntry *entry);

/* Two ends that only have each other: as socketpair(2) makes them. *ret_peer is NULL where the other one was closed. */
MUST_USE struct error *unix_entry_is_pair(const struct restore_files *restore, const UnixSkEntry *entry,
                                          const GodwitSocketEntry *extras, bool *ret_is_pair,
                                          const UnixSkEntry **ret_peer);

/* A descriptor that is kept for later, by UNIX_KEY_HANDLE, UNIX_KEY_GONE or UNIX_KEY_RIGHT; less than 0: there is none. */
void unix_entry_give(struct restore_files *restore, enum unix_key kind, uint32_t number, int fd);
int unix_entry_borrow(const struct restore_files *restore, enum unix_key kind, uint32_t number);
