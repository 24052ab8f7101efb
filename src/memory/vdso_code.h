/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The functions of a vDSO: vdso(7).
 *
 * A program has their addresses in many places: libc's, in variables of its own, on its stacks. If it goes on with the vDSO
 * of another kernel, its code therefore stays where it was, and each function becomes a jump to the one of the same name.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/attributes.h"

struct error;

struct vdso_code {
	uint8_t *bytes;    /* borrowed */
	size_t size_bytes; /* whole pages */
	uint64_t address;  /* where it is, or will be, in the task */
};

/*
 * Changes the functions of the program's vDSO into jumps to those of the kernel's. An error if one isn't there, or if the
 * program's has a function that nobody knows; then it may be half changed.
 */
MUST_USE struct error *vdso_redirect(const struct vdso_code *program, const struct vdso_code *kernel);
