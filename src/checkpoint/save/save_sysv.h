/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Objects of System V of a tree. Which of the host's are its own is told by what it has attached. */
#pragma once

#include "image/store.h"
#include "memory/areas.h"
#include "objects/sysv/sysv.h"

/* The segments among these areas, each once in a store, but for their content. */
MUST_USE struct error *save_segments(const struct areas *areas, const struct sysv_users *users,
                                     struct image_store *store);
