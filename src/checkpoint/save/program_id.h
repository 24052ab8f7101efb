/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Which program a process is. A PID may be another process's by now, and a process may have executed another program: then
 * nothing that was known of its memory is true. Each execve(2) puts other random bytes where AT_RANDOM of getauxval(3) says.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct program_id {
	uint64_t start_time;     /* of the process: procfs_start_time() */
	uint64_t random_address; /* 0: not known */
	uint8_t random[16];
};

/* What can't be read is as if it were the same for ever. */
void program_id_read(pid_t pid, struct program_id *ret_id);

/* Of a process that is held, so that the PID is still the same one's. mem_fd: /proc/PID/mem */
bool program_id_is_current(const struct program_id *id, int mem_fd);

bool program_id_is_same(const struct program_id *id, const struct program_id *other);
