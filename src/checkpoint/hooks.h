/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Points at which whoever asked for it may act, by CRIU's names and in its order:
 *
 *     saving      pre-dump, [frozen] network-lock, post-dump, network-unlock (if the program goes on)
 *     restoring   pre-restore, setup-namespaces, post-setup-namespaces, post-restore, network-unlock, pre-resume,
 *                 [it runs] post-resume
 *
 * An error of a hook ends what is being done, like any other; behind the point of no return it is only told. Nothing
 * is called, and so no process started in the freeze, unless somebody asked.
 */
#pragma once

#include <sys/types.h>

#include "util/error.h"

enum {
	HOOK_NO_LIMIT_MS = -1,
	HOOK_LIMIT_MS = 10000, /* where another host waits for us */
};

struct hooks {
	/* pid: of the program's first process as godwit sees it; 0: there is none yet. */
	struct error *(*run)(struct hooks *hooks, const char *point, pid_t pid, int limit_ms);
};

/* hooks may be NULL: nobody asked. */
MUST_USE struct error *hooks_run(struct hooks *hooks, const char *point, pid_t pid, int limit_ms);

/*
 * For network-lock and network-unlock: called only where the program is in a network namespace of its own (another
 * than that of PID 1), which a script may lock as a whole. The connections themselves godwit locks in any case.
 */
MUST_USE struct error *hooks_run_network(struct hooks *hooks, const char *point, pid_t pid, int limit_ms);
