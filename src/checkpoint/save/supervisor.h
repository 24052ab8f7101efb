/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Who sees the copy of a program end that stays behind, and what it does then: a unit of systemd, another supervisor, a
 * shell. One that starts the program again would make it run twice.
 *
 * The unit is told by the control group, its settings by systemctl(1), which is run: before the freeze, or behind the
 * handover.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/error.h"

struct supervisor {
	char *unit;        /* owned; NULL: it is in no service of systemd */
	char *text;        /* owned: for people, one line; NULL: nobody sees it who would do anything */
	bool starts_again; /* as far as we can know */
};

/* exit_status is that of the copy; -1: it is killed. *ret_supervisor is to be freed. */
void supervisor_look(pid_t pid, int exit_status, struct supervisor *ret_supervisor);
void supervisor_free(struct supervisor *supervisor); /* what it points to, not itself */
#define auto_supervisor __attribute__((cleanup(supervisor_free)))

/* Stops a unit without waiting for its end. The caller frees what is returned: a warning, or NULL. unit may be NULL. */
char *supervisor_stop(const char *unit);
