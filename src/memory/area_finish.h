/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The last of building areas: what is said about them, once they are filled. */
#pragma once

#include <stdbool.h>

#include "godwit-memory.pb-c.h"
#include "mm.pb-c.h"
#include "task/process.h"

bool area_is_of_kernel(const VmaEntry *vma);

/* What else is known of an area; NULL: nothing. To be asked in the order of areas, with *next = 0 at first; extra may be
 * NULL. */
const AreaExtraEntry *area_extra_of(const MemoryExtraEntry *extra, const VmaEntry *vma, size_t *next);

/* Names, advice, guards, policies, locks and, behind all else, seals. */
MUST_USE struct error *areas_finish(struct process *task, const MmEntry *mm, const MemoryExtraEntry *extra);
