/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A PID namespace for one restored program, where other programs of this host may have its PIDs: pid_namespaces(7).
 *
 * Its first process is a small init: this program, executed anew under another name. It reaps whom nobody else does, and
 * ends when nobody is left in the namespace, since its end ends all the others: with the exit status of the program, or
 * 128 and the number of the signal. It passes no signals on, and blocks those that are sent to it.
 *
 * This process stays outside, and sees all of them by other numbers. The program sees the mounts of the host, so /proc
 * shows it the numbers of the host, too.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/error.h"

/* As what main() is called, to be an init. */
#define PID_SPACE_INIT "godwit-init"

struct pid_space;

/* own_pid: of the program, as it sees itself. is_child: the init is a child of this process, else an orphan. */
MUST_USE struct error *pid_space_new(pid_t own_pid, bool is_child, struct pid_space **ret_space);

/* The init ends when, and as soon as, nobody else is there. */
void pid_space_free(struct pid_space *space);
DEFINE_OWNED(struct pid_space *, pid_space_free)
#define auto_pid_space AUTO(pid_space_free)

/* The init, as this process sees it. */
pid_t pid_space_init(const struct pid_space *space);

/* From here on this process makes its children there. */
MUST_USE struct error *pid_space_enter(const struct pid_space *space);
MUST_USE struct error *pid_space_leave(void);

/* The only child that the init has, as this process sees it. */
MUST_USE struct error *pid_space_only_child(const struct pid_space *space, pid_t *ret_pid);

/* main() of an init. */
int pid_space_be_init(int argc, char **argv);
