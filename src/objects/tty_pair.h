/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Pseudoterminals whose both ends are in the program: made for the first description of either end, or for the session
 * that it is the terminal of; filled and finished when all descriptions are in their places, since what is locked, stopped or
 * closed then would have been in the way.
 */
#pragma once

#include "objects/tty_entries.h"

/* Can the number be had? */
MUST_USE struct error *tty_pair_preflight(const TtyInfoEntry *master);

/* The terminal of a session, if it is one of these, for its leader: those whom it makes from then on inherit it. There,
 * own_pidfd stands for this process. */
MUST_USE struct error *tty_pair_begin_session(struct restore_files *restore, pid_t session, struct process *leader,
                                              int own_pidfd);

/* A new description of one end. The caller closes it. */
MUST_USE struct error *tty_pair_open_master(const TtyInfoEntry *info, struct restore_files *restore, int *ret_fd);
MUST_USE struct error *tty_pair_open_slave(const TtyInfoEntry *info, uint32_t flags, struct restore_files *restore,
                                           int *ret_fd);

/* /dev/tty of a session whose terminal is one. */
MUST_USE struct error *tty_pair_open_current(const TtyInfoEntry *info, uint32_t flags, struct restore_files *restore,
                                             int *ret_fd);

/* The slave of a pseudoterminal that has gone. */
MUST_USE struct error *tty_pair_open_hung_up(uint32_t flags, int *ret_fd);

/* Once for each pair, whichever description it is called for. */
MUST_USE struct error *tty_pair_finish(const TtyInfoEntry *master, struct restore_files *restore);
