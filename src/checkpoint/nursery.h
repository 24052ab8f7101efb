/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Where a restored task comes from: a bare clone of this process with the right PID, session and process group, and no
 * descriptor but one. It waits until it is adopted (process_adopt()) and everything else is replaced.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/error.h"

struct nursery_request {
	pid_t pid;     /* also of the thread group leader: clone3(2), set_tid */
	pid_t session; /* 0: that of this process */
	pid_t group;   /* 0: that of this process */
	int kept_fd;   /* of this process: a descriptor that the task keeps … */
	int kept_as;   /* … under this number */
};

/* A session or group whose leader is dead gets one for a moment. The new task is our child. */
MUST_USE struct error *nursery_clone(const struct nursery_request *request, pid_t *ret_pid);
