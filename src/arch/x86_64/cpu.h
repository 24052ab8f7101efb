/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What this processor can do that a program may have found out: the names in /proc/cpuinfo. A program asks once, mostly
 * at its start (libc chooses its memcpy then), and goes on using what it found.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

/* Which of it counts when a program comes from another host: CRIU's names of --cpu-cap. */
enum cpu_cap {
	CPU_CAP_FPU = 1, /* registers and instructions of FPU and vectors */
	CPU_CAP_INS = 2, /* all other instructions */
	CPU_CAP_CPU = 4, /* the very same model, with the same flags */
};

struct cpu {
	char *model;  /* owned: vendor, family, model, stepping */
	char **flags; /* owned */
	size_t flag_count;
};

MUST_USE struct error *cpu_read(struct cpu *ret_cpu);
void cpu_free(struct cpu *cpu); /* what it points to */
#define auto_cpu __attribute__((cleanup(cpu_free)))

/* Is that a flag for one of these caps? Flags that are the kernel's own affair are for CPU_CAP_CPU only. */
bool cpu_flag_counts(const char *flag, unsigned caps);
