/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The shared memory of a process, from both sides: what it maps, and memfds that it only has descriptors of. */
#pragma once

#include "checkpoint/file_table.h"
#include "image/store.h"
#include "memory/shared.h"

/* All of it, to be sent. The caller frees it. */
MUST_USE struct error *shared_memory_list(pid_t pid, const struct areas *areas, const struct file_table *files,
                                          struct shared_objects *ret_objects);

/* What the areas and memfd.img don't tell of it: how large anonymous shared memory is. */
MUST_USE struct error *shared_memory_put(pid_t pid, const struct areas *areas, struct image_store *store);

/* The memfds among the descriptors, into files.img and memfd.img: before their content is sent. */
MUST_USE struct error *shared_memory_put_memfds(const struct file_table *files, struct image_store *store);
