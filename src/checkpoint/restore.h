/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Bringing back a process from a directory. */
#pragma once

#include "objects/objects.h"
#include "util/error.h"

struct restore_options_all {
	int images_dir_fd; /* borrowed */
	bool leave_stopped;
	struct carry_options carry;
};

/* The process is our child and runs (or is stopped, as asked). When this fails nothing of it is left. */
MUST_USE struct error *restore_run(const struct restore_options_all *options, pid_t *ret_pid);
