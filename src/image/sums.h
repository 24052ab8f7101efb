/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Checksums of the files in a directory of images: sums.godwit, a line for each file (XXH3-128 in hex, size, name).
 *
 * A flipped bit in an image may still be well-formed, and become a wrong register or a wrong byte of memory. Who changes
 * an image on purpose deletes sums.godwit; a directory without it is read as it is, as those that CRIU writes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

/* A checksum while it is computed. */
struct sum;
struct sum *sum_new(void);
void sum_add(struct sum *sum, const void *bytes, size_t size_bytes);
void sum_free(struct sum *sum);
DEFINE_OWNED(struct sum *, sum_free)
#define auto_sum AUTO(sum_free)

/* Adds a file that has been written, and all of it been added to sum. Not yet durable: sums_sync(). */
MUST_USE struct error *sums_append(int dir_fd, const char *name, const struct sum *sum);
MUST_USE struct error *sums_sync(int dir_fd);

/* A set of images that was never finished has no sums. Leaves those of a finished one alone. */
void sums_forget(int dir_fd);

struct sums;

/* An empty list where there is no file. */
MUST_USE struct error *sums_read(int dir_fd, struct sums **ret_sums);
void sums_free(struct sums *sums);
DEFINE_OWNED(struct sums *, sums_free)
#define auto_sums AUTO(sums_free)

/* Is there something to compare with? */
bool sums_has(const struct sums *sums, const char *name);

/* NULL if sum is that of the file when it was written, or if nothing is known of the file. */
MUST_USE struct error *sums_check(const struct sums *sums, const char *name, const struct sum *sum);

/* The same for a whole file in the directory, which is read for that. */
MUST_USE struct error *sums_check_file(const struct sums *sums, int dir_fd, const char *name);

/* An error for the first file that has a sum and isn't in the directory. */
MUST_USE struct error *sums_check_all_there(const struct sums *sums, int dir_fd);
