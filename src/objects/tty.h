/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Terminals, seen from the program as a whole: whose they are, and what it has to be told once it runs. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "image/store.h"

struct open_files;

/* Is the terminal of that device number a pseudoterminal whose master the program has? */
bool tty_is_inside(const struct open_files *files, dev_t terminal);

/* Does the program that these images are of have a terminal of a session that has stayed? */
bool tty_is_of_session(const struct image_store *store);

/*
 * SIGWINCH, if the terminal has another size than the one that the images tell of. A signal that came earlier would find
 * the program outside of the system call that it waits in, and so would be heeded only with the next key.
 */
void tty_tell_size(const struct image_store *store, pid_t pid);
