/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Shared memory of a program that is built. It is made and filled here, in this process, as files; the task then maps
 * them, and gets descriptors of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/attributes.h"
#include "util/own.h"

struct error;

struct shared_build;

/* Never NULL. */
struct shared_build *shared_build_new(void);
/* Closes what is left of it here. */
void shared_build_free(struct shared_build *shared);
DEFINE_OWNED(struct shared_build *, shared_build_free)
#define auto_shared_build AUTO(shared_build_free)

/* A descriptor, open for both; borrowed. -1: there is none with that id. */
int shared_build_find(const struct shared_build *shared, uint64_t id);

/* A memfd, which is owned from then on. */
void shared_build_add(struct shared_build *shared, uint64_t id, int fd);

/* Memory of MAP_SHARED|MAP_ANONYMOUS. map_flags: MAP_NORESERVE, MAP_HUGETLB and the size of its pages. */
MUST_USE struct error *shared_build_make(struct shared_build *shared, uint64_t id, uint64_t size_bytes, int map_flags);

/* The size of a memfd. Until all is filled it only grows: it may have been smaller and have grown again meanwhile. */
MUST_USE struct error *shared_build_resize(struct shared_build *shared, uint64_t id, uint64_t size_bytes,
                                           bool is_final);

/* Writes pages; the object becomes as large as that needs. */
MUST_USE struct error *shared_build_fill(struct shared_build *shared, uint64_t id, uint64_t offset, const void *bytes,
                                         size_t page_count);

/* Makes pages zero that were filled before; they take no memory then, if they are no huge ones. */
MUST_USE struct error *shared_build_drop(struct shared_build *shared, uint64_t id, uint64_t offset, size_t page_count);

/* Each object in turn, from *index = 0 on; false: there are no more. */
bool shared_build_next(const struct shared_build *shared, size_t *index, uint64_t *ret_id);
