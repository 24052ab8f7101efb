/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a small function returns whose failure is an answer: -errno of the system call that has just failed.
 *
 * It is below 0 for sure (errno(3): a call that failed sets a positive number), and the compiler and the analyzer know
 * it: whoever asks `if (r < 0)` has seen every failure, and what such a function leaves unset then isn't read.
 */
#pragma once

#include <assert.h>
#include <errno.h>

static inline int negative_errno(void)
{
	int r = -errno;

	assert(r < 0);
	return r;
}
