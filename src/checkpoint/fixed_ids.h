/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The ids of ids-PID.img: what of a task is shared with which other ones. A single process shares nothing. */
#pragma once

#include "core.pb-c.h"

enum { ONLY_ID = 1 };

static inline void fixed_ids(TaskKobjIdsEntry *ids)
{
	ids->vm_id = ONLY_ID;
	ids->files_id = ONLY_ID;
	ids->fs_id = ONLY_ID;
	ids->sighand_id = ONLY_ID;
}
