/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A new file in a directory of images. It is gone when it is freed, unless it is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

struct output;

/* A file of that name must not be there yet. dir_fd is borrowed until free. With has_sum it gets a line in sums.godwit
 * (sums.h) when it is finished. */
MUST_USE struct error *output_open(int dir_fd, const char *name, bool has_sum, struct output **ret_output);

/* So many bytes are gathered before anything is written: a page otherwise. Nothing has been put yet. */
void output_gather(struct output *output, size_t size_bytes);

/* Appends. Small pieces are gathered, large ones are written as they are. */
MUST_USE struct error *output_put(struct output *output, const void *bytes, size_t size_bytes);

/* Writes what is still gathered, fsyncs, and closes: nothing can be put any more. */
MUST_USE struct error *output_finish(struct output *output);

/* The file stays. */
void output_keep(struct output *output);

void output_free(struct output *output);
DEFINE_OWNED(struct output *, output_free)
#define auto_output AUTO(output_free)
