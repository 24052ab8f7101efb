/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "objects/unix_diag.h"
#include "objects/unix_entries.h"
#include "objects/unix_outside.h"

enum { BACKLOG_MAX = 1 << 20 };

uint64_t unix_key(enum unix_key kind, uint32_t number)
{
	return (uint64_t)kind << 32 | number;
}

struct error *unix_entry_check(const UnixSkEntry *entry)
{
	struct unix_name name;

	if (!entry)
		return error_new(EBADMSG, "file entry of type UNIXSK without a socket");
	if ((entry->type != SOCK_STREAM && entry->type != SOCK_DGRAM && entry->type != SOCK_SEQPACKET) ||
	    (entry->state != UNIX_ESTABLISHED && entry->state != UNIX_CLOSED && entry->state != UNIX_LISTENING) ||
	    (entry->state == UNIX_LISTENING && entry->type == SOCK_DGRAM) || entry->backlog > BACKLOG_MAX)
		return error_new(EBADMSG, "UNIX socket of type %u in state %u", entry->type, entry->state);
	return unix_name_from(&entry->name, &name);
}

/* Pointers to entries that restore keeps. */
static void note_entry(struct restore_files *restore, enum unix_key kind, uint32_t number, const UnixSkEntry *entry)
{
	restore_note(restore, FD_TYPES__UNIXSK, unix_key(kind, number), (uintptr_t)entry);
}

const UnixSkEntry *unix_entry_noted(const struct restore_files *restore, enum unix_key kind, uint32_t number)
{
	uint64_t value;

	return restore_noted(restore, FD_TYPES__UNIXSK, unix_key(kind, number), &value)
	               ? (const UnixSkEntry *)(uintptr_t)value
	               : NULL;
}

static struct error *scan_one(struct restore_files *restore, size_t index, uint32_t *count)
{
	FileEntry *entry;

	TRY(restore_nth_file_entry(restore, index, &entry));
	if (entry->type != FD_TYPES__UNIXSK) {
		file_entry__free_unpacked(entry, NULL);
		return NULL;
	}
	restore_keep(restore, &entry->base);
	TRY(unix_entry_check(entry->usk));
	note_entry(restore, UNIX_KEY_NTH, (*count)++, entry->usk);
	note_entry(restore, UNIX_KEY_INODE, entry->usk->ino, entry->usk);
	note_entry(restore, UNIX_KEY_ID, entry->id, entry->usk);
	return NULL;
}

struct error *unix_entries_find(struct restore_files *restore)
{
	uint32_t count = 0;

	if (!restore_note(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_SCANNED, 0), 0))
		return NULL;
	for (size_t i = 0; i < image_count(restore_store(restore), IMAGE_FILES, 0); i++)
		TRY(scan_one(restore, i, &count));
	restore_note(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_COUNT, 0), count);
	return NULL;
}

uint32_t unix_entries_count(const struct restore_files *restore)
{
	uint64_t count = 0;

	(void)restore_noted(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_COUNT, 0), &count);
	return (uint32_t)count;
}

struct unix_name unix_entry_name(const ProtobufCBinaryData *bytes)
{
	struct unix_name name;
	auto_error struct error *error = unix_name_from(bytes, &name); /* has been checked */

	return name;
}

const UnixSkEntry *unix_entry_namesake(const struct restore_files *restore, const UnixSkEntry *entry, bool is_listener)
{
	const struct unix_name name = unix_entry_name(&entry->name);

	for (uint32_t i = 0; i < unix_entries_count(restore); i++) {
		const UnixSkEntry *other = unix_entry_noted(restore, UNIX_KEY_NTH, i);

		assert(other); /* there are as many */
		const struct unix_name other_name = unix_entry_name(&other->name);

		if (other != entry && other->type == entry->type && (!is_listener || other->state == UNIX_LISTENING) &&
		    unix_name_is_equal(&name, &other_name))
			return other;
	}
	return NULL;
}

bool unix_entry_is_connected(const UnixSkEntry *entry)
{
	return entry->state == UNIX_ESTABLISHED && !unix_outside_is(entry);
}

struct error *unix_entry_is_pair(const struct restore_files *restore, const UnixSkEntry *entry,
                                 const GodwitSocketEntry *extras, bool *ret_is_pair, const UnixSkEntry **ret_peer)
{
	*ret_peer = entry->peer ? unix_entry_noted(restore, UNIX_KEY_INODE, entry->peer) : NULL;
	*ret_is_pair = unix_entry_is_connected(entry);
	if (!*ret_is_pair || !entry->peer)
		return NULL;
	const UnixSkEntry *peer = *ret_peer;
	if (!peer || peer == entry || peer->type != entry->type)
		return error_new(EBADMSG, "UNIX socket %u with other end %u, which isn't there", entry->ino,
		                 entry->peer);
	bool is_mutual = unix_entry_is_connected(peer) && peer->peer == entry->ino;
	if (entry->type != SOCK_DGRAM && !is_mutual)
		return error_new(EBADMSG, "UNIX sockets %u and %u, of which only one is connected", entry->ino,
		                 peer->ino);
	if (entry->type == SOCK_DGRAM) {
		bool has_names = entry->name.len > 0 && peer->name.len > 0;

		*ret_is_pair = is_mutual && (!has_names || (extras && extras->has_peer_uid));
		if (!*ret_is_pair && peer->name.len == 0)
			return error_new(ENOTSUP, "UNIX socket %u connected to one without a name", entry->ino);
	}
	return NULL;
}

void unix_entry_give(struct restore_files *restore, enum unix_key kind, uint32_t number, int fd)
{
	restore_spare_give(restore, FD_TYPES__UNIXSK, unix_key(kind, number), fd);
}

int unix_entry_borrow(const struct restore_files *restore, enum unix_key kind, uint32_t number)
{
	return restore_spare_borrow(restore, FD_TYPES__UNIXSK, unix_key(kind, number));
}
