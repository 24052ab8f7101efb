/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Bringing back a process from a directory. */
#pragma once

#include "checkpoint/hooks.h"
#include "objects/objects.h"
#include "util/error.h"
#include "util/log.h"

/* Whoever wants to know when the program is ready. */
struct restore_watcher {
	/* Called when it is complete, just before it runs. An error ends the restore. */
	struct error *(*before_go)(struct restore_watcher *watcher, pid_t pid);
};

struct restore_options {
	int images_dir_fd; /* borrowed */
	bool leave_stopped;
	bool is_child;     /* the process becomes our child, that is we wait for its end */
	unsigned cpu_caps; /* enum cpu_cap: what of the processor that it was saved on has to be here */
	bool new_pids;     /* in a PID namespace of its own */
	struct carry_options carry;
	struct restore_watcher *watcher; /* borrowed; may be NULL */
	struct hooks *hooks;             /* borrowed; may be NULL */
	struct log *log;                 /* borrowed; may be NULL */
};

/* The process runs (or is stopped, as asked). When this fails with *ret_pid 0, nothing of it is left; else it runs, but not
 * all of it is as it should be. *ret_child is whose end it is that we are told of, if it was to be our child: the process, or
 * the init of its PID namespace. */
MUST_USE struct error *restore_run(const struct restore_options *options, pid_t *ret_pid, pid_t *ret_child);
