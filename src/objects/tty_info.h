/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a terminal is, and its settings: termios, window size, and those of a pseudoterminal's master. For tty.c.
 *
 * A pair has one set of each, which both ends show and set. In images each end has a message of its own, with the same
 * settings.
 */
#pragma once

#include "objects/objects.h"

enum tty_kind {
	TTY_NONE,    /* no terminal */
	TTY_MASTER,  /* /dev/ptmx */
	TTY_SLAVE,   /* /dev/pts/N */
	TTY_CURRENT, /* /dev/tty: the controlling terminal of whoever opens it */
	TTY_VIRTUAL, /* /dev/ttyN */
	TTY_SERIAL,  /* /dev/ttySN */
	TTY_CONSOLE, /* /dev/console */
};

/* By device number: Documentation/admin-guide/devices.txt of Linux. */
enum tty_kind tty_kind_of(dev_t device);

/* The N of /dev/pts/N for a slave's device number. */
unsigned tty_slave_index(dev_t device);
dev_t tty_slave_device(unsigned index);

/* No longer connected to anything: its master is closed. Reads end, writes fail with EIO. */
bool tty_is_hung_up(int fd);

/* Messages to be filled, with what they point to. info is a tty_info_entry that is ready to be put. */
struct tty_settings {
	TtyInfoEntry info;
	TermiosEntry termios, termios_locked;
	WinsizeEntry window;
	TtyPtyEntry pty;
	uint32_t characters[2][32];
};

/* Reads what fd shows; a terminal that has hung up has no settings. Not set are id, sid and pgrp. */
MUST_USE struct error *tty_settings_read(int fd, enum tty_kind kind, bool is_hung_up, struct tty_settings *settings);

/* Sets termios, and the window size where it is to be. */
MUST_USE struct error *tty_settings_apply(int fd, const TtyInfoEntry *info, bool is_size_set);

/* Of the terminal; 0 x 0 where nobody has told it. */
MUST_USE struct error *tty_window_read(int fd, uint32_t *ret_rows, uint32_t *ret_columns);
