/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The content of a file that goes into the images: a deleted file's, a memfd's. Holes stay holes.
 *
 * It is put as ghost_chunk_entry messages, each with its bytes behind it.
 */
#pragma once

#include <stdint.h>

#include "image/store.h"

/* Puts the data of fd, which is open for reading, into an image. Runs frozen. */
MUST_USE struct error *content_save(int fd, struct image_store *store, enum image_kind kind, uint64_t id);

/* Writes the chunks from message number first on into fd, an empty file that has its final size. */
MUST_USE struct error *content_restore(const struct image_store *store, enum image_kind kind, uint64_t id, size_t first,
                                       int fd);

/* pwrite(2) of all bytes. */
MUST_USE struct error *content_write(int fd, const void *bytes, size_t size_bytes, uint64_t offset);
