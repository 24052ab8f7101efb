/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The shared memory of a tree of processes, from both sides: what it maps, and memfds that it only has descriptors of. */
#pragma once

#include "checkpoint/file_table.h"
#include "image/store.h"
#include "memory/shared.h"

/* Adds the memfds among the descriptors to what areas map: then that is all of it, to be sent. */
MUST_USE struct error *shared_memory_add_memfds(const struct file_table *files, struct shared_objects *objects);

/* What the areas and memfd.img don't tell of what is mapped: how large anonymous shared memory is. */
MUST_USE struct error *shared_memory_put(const struct shared_objects *objects, struct image_store *store);

/* The memfds among the descriptors, into files.img and memfd.img: before their content is sent. */
MUST_USE struct error *shared_memory_put_memfds(const struct file_table *files, struct image_store *store);
