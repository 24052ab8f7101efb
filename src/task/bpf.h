/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What a filter of seccomp(2) says to a system call, found out beforehand: the language of bpf, as far as such filters use it. */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Runs a filter that the kernel has taken. Anything else, and a filter that looks at where the call is made, which isn't
 * known beforehand, gives SECCOMP_RET_KILL_PROCESS.
 */
uint32_t bpf_run(const struct sock_filter *code, size_t count, const struct seccomp_data *data);
