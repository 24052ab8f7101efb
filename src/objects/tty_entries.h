/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What an image says of terminals: which are whose, and what each open one becomes. */
#pragma once

#include "objects/objects.h"
#include "objects/tty_info.h"

static inline void tty_entry_free(TtyInfoEntry *info)
{
	if (info)
		tty_info_entry__free_unpacked(info, NULL);
}
DEFINE_OWNED(TtyInfoEntry *, tty_entry_free)
#define auto_tty_entry AUTO(tty_entry_free)

/* What an entry becomes. */
enum tty_becomes {
	TTY_BECOMES_HUNG_UP,
	TTY_BECOMES_MASTER,
	TTY_BECOMES_SLAVE,   /* its master is in the program, too */
	TTY_BECOMES_CURRENT, /* /dev/tty of a session whose terminal is such a slave */
	TTY_BECOMES_OURS,    /* the terminal that we are called from */
};

/* Of an open terminal. The caller frees it. */
MUST_USE struct error *tty_entry_of(const FileEntry *entry, const struct image_store *store, TtyInfoEntry **ret_info);
MUST_USE struct error *tty_entry_becomes(const TtyInfoEntry *info, const struct image_store *store,
                                         enum tty_becomes *ret_becomes);

/* The ends of the pseudoterminal with that number, and the slave that is a session's terminal. NULL: there is none. The
 * caller frees. */
MUST_USE struct error *tty_entry_master(const struct image_store *store, unsigned index, TtyInfoEntry **ret_info);
MUST_USE struct error *tty_entry_slave(const struct image_store *store, unsigned index, TtyInfoEntry **ret_info);
MUST_USE struct error *tty_entry_of_session(const struct image_store *store, uint32_t session, TtyInfoEntry **ret_info);

/* The controlling terminal of a session that has stayed with it. NULL: there is none. The caller frees. */
MUST_USE struct error *tty_entry_that_stayed(const struct image_store *store, TtyInfoEntry **ret_info);
