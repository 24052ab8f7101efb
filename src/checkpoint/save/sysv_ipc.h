/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V semaphores and message queues that a process uses. They belong to nobody, and stay where they are when it moves;
 * the kernel tells of each who was the last to use it, and that is all there is to find out whose it is.
 */
#pragma once

#include <sys/types.h>

struct problems;

/* Adds those that pid was the last one to use. */
void sysv_ipc_check(pid_t pid, struct problems *problems);
