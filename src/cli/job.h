/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A restored program as a job of the shell that called us (--shell-job without -d). The shell knows only us, so we do what
 * the program would: stop when it stops, hand the terminal back when it ends.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct job {
	pid_t pid;          /* our child */
	bool is_foreground; /* its group has the terminal, and it is another one than ours */
};

struct job job_begin(pid_t pid);

/* The program has been stopped: stops us, and lets it go on when the shell lets us. */
void job_stop(struct job *job);

/* The program has ended. */
void job_end(const struct job *job);
