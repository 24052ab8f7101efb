/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Who is who, and shares what with whom: pstree.img, ids-PID.img, and all that there is of a process that has ended. */
#pragma once

#include "checkpoint/save/freeze.h"
#include "core.pb-c.h"
#include "image/store.h"

/* The whole tree, which stands still. */
MUST_USE struct error *save_tree(const struct live_tree *live, const struct frozen *frozen, struct image_store *store);

/* The entry of one task alone in pstree.img. process is NULL while it runs: then it is told which threads there are now. */
MUST_USE struct error *save_tree_entry(const struct live_tree *live, size_t task, const struct process *process,
                                       struct image_store *store);

void save_tree_ids(const struct tree_task *task, TaskKobjIdsEntry *ret_ids);
