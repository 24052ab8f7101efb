/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Transient scopes of systemd: the control group that it makes for a process which it hasn't started (org.freedesktop.systemd1(5),
 * StartTransientUnit). It watches over it, shows it in systemctl(1), and removes it when it is empty.
 *
 * Asked by way of busctl(1), which comes with systemd: some 20 ms, never in a freeze.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/error.h"

/* Does systemd run here, and mean the same processes by their PIDs as we do? */
bool scope_can_be(void);

/* Returns when the process is in it. name ends with ".scope". companion is put there as well; 0: none. */
MUST_USE struct error *scope_make(pid_t pid, pid_t companion, const char *name);
