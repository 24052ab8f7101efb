/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>

#include "objects/tty_entries.h"

static bool has_id(const TtyInfoEntry *info, uint64_t id)
{
	return info->id == id;
}

static bool is_pty(const TtyInfoEntry *info, uint64_t index, enum tty_kind kind)
{
	return info->type == TTY_TYPE__PTY && info->termios && info->pty && info->pty->index == index &&
	       tty_kind_of(info->rdev) == kind;
}

static bool is_master_of(const TtyInfoEntry *info, uint64_t index)
{
	return is_pty(info, index, TTY_MASTER);
}

static bool is_slave_of(const TtyInfoEntry *info, uint64_t index)
{
	return is_pty(info, index, TTY_SLAVE);
}

static bool is_of_session(const TtyInfoEntry *info, uint64_t session)
{
	return info->sid == session && info->pty && is_slave_of(info, info->pty->index);
}

/* *ret_info is NULL where there is none from *index on, which becomes the next one's. The caller frees it. */
static struct error *find_from(const struct image_store *store,
                               bool (*is_it)(const TtyInfoEntry *info, uint64_t number), uint64_t number, size_t *index,
                               TtyInfoEntry **ret_info)
{
	*ret_info = NULL;
	while (*index < image_count(store, IMAGE_TTY_INFO, 0)) {
		auto_tty_entry TtyInfoEntry *info = NULL;

		TRY(image_get(store, IMAGE_TTY_INFO, 0, (*index)++, (ProtobufCMessage **)&info));
		if (!is_it(info, number))
			continue;
		*ret_info = take(info);
		return NULL;
	}
	return NULL;
}

static struct error *find(const struct image_store *store, bool (*is_it)(const TtyInfoEntry *info, uint64_t number),
                          uint64_t number, TtyInfoEntry **ret_info)
{
	size_t index = 0;

	return find_from(store, is_it, number, &index, ret_info);
}

struct error *tty_entry_of(const FileEntry *entry, const struct image_store *store, TtyInfoEntry **ret_info)
{
	if (!entry->tty)
		return error_new(EBADMSG, "file entry of type TTY without a terminal");
	TRY(find(store, has_id, entry->tty->tty_info_id, ret_info));
	return *ret_info ? NULL : error_new(EBADMSG, "tty-info.img has no terminal %#x", entry->tty->tty_info_id);
}

struct error *tty_entry_master(const struct image_store *store, unsigned index, TtyInfoEntry **ret_info)
{
	return find(store, is_master_of, index, ret_info);
}

struct error *tty_entry_slave(const struct image_store *store, unsigned index, TtyInfoEntry **ret_info)
{
	return find(store, is_slave_of, index, ret_info);
}

struct error *tty_entry_of_session(const struct image_store *store, uint32_t session, TtyInfoEntry **ret_info)
{
	return find(store, is_of_session, session, ret_info);
}

static struct error *has_inside_terminal(const struct image_store *store, uint32_t session, bool *ret_is_inside)
{
	auto_tty_entry TtyInfoEntry *slave = NULL;
	auto_tty_entry TtyInfoEntry *master = NULL;

	if (session)
		TRY(tty_entry_of_session(store, session, &slave));
	if (slave)
		TRY(tty_entry_master(store, slave->pty->index, &master));
	*ret_is_inside = master;
	return NULL;
}

struct error *tty_entry_becomes(const TtyInfoEntry *info, const struct image_store *store,
                                enum tty_becomes *ret_becomes)
{
	auto_tty_entry TtyInfoEntry *master = NULL;
	bool is_inside = false;

	*ret_becomes = TTY_BECOMES_OURS;
	if (info->type == TTY_TYPE__CTTY)
		TRY(has_inside_terminal(store, info->sid, &is_inside));
	if (is_inside)
		*ret_becomes = TTY_BECOMES_CURRENT;
	if (info->type != TTY_TYPE__PTY)
		return NULL;
	if (!info->pty)
		return error_new(EBADMSG, "pseudoterminal %#x without a number", info->id);
	if (!info->termios) {
		*ret_becomes = TTY_BECOMES_HUNG_UP;
		return NULL;
	}
	TRY(tty_entry_master(store, info->pty->index, &master));
	if (master)
		*ret_becomes = master->id == info->id ? TTY_BECOMES_MASTER : TTY_BECOMES_SLAVE;
	return NULL;
}

static bool has_session(const TtyInfoEntry *info, uint64_t unused)
{
	(void)unused;
	return info->sid != 0;
}

struct error *tty_entry_that_stayed(const struct image_store *store, TtyInfoEntry **ret_info)
{
	size_t index = 0;

	for (;;) {
		auto_tty_entry TtyInfoEntry *info = NULL;
		enum tty_becomes becomes;

		*ret_info = NULL;
		TRY(find_from(store, has_session, 0, &index, &info));
		if (!info)
			return NULL;
		TRY(tty_entry_becomes(info, store, &becomes));
		if (becomes != TTY_BECOMES_OURS)
			continue;
		*ret_info = take(info);
		return NULL;
	}
}
