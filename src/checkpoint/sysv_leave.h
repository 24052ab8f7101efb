/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What of System V a program leaves behind that has been carried: it would stay until the host's end. */
#pragma once

#include <sys/types.h>

/*
 * The tree of pid is about to be ended, for it has been carried: segments that it alone has attached, its
 * semaphores and its queues go with it (sysv_owner.h). It must be there still, for only it knows them; nobody has to be told what can't be removed.
 */
void sysv_leave(pid_t pid);
