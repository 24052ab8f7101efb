/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* mm-PID.img: the areas, and where code, heap, stack, arguments and environment begin and end. */
#pragma once

#include "checkpoint/mapped_files.h"
#include "checkpoint/thread_state.h"

struct save_mm {
	pid_t pid;
	pid_t own_pid; /* as it sees itself */
	const struct areas *areas;
	struct mapped_files *mapped;
	struct open_files *all;
	struct memory_answers answers;
	struct image_store *store;
};

MUST_USE struct error *save_mm(const struct save_mm *save);
