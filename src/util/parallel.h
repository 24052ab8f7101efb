/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The same small thing for many, by as many threads as there are processors to use.
 *
 * For what is done while a program stands still: each of the things allocates nothing. A new thread would get memory from an
 * arena that nobody has touched yet, and a page fault costs more than what is done.
 */
#pragma once

#include <stddef.h>

/* act(context, index) for each index below count, in no order, by several threads at a time. Returns when all is done. */
void parallel_for(size_t count, void (*act)(void *context, size_t index), void *context);
