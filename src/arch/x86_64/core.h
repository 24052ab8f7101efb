/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Registers and FPU state in the image's terms: the processor's part of core-TID.img. Not for the stub. */
#pragma once

#include "arch/arch.h"
#include "core.pb-c.h"
#include "util/error.h"

/* Where this processor has what in an XSAVE area. To be read once: CPUID takes long in a virtual machine. */
enum { ARCH_FPU_COMPONENTS = 10 };
struct arch_fpu_layout {
	uint64_t enabled; /* XCR0: the components that programs may use */
	size_t area_bytes;
	size_t offsets[ARCH_FPU_COMPONENTS]; /* 0: it has none of that kind */
};
void arch_fpu_layout_read(struct arch_fpu_layout *ret_layout);

/*
 * Puts registers and FPU state into core, as if unpacked (freed by core_entry__free_unpacked()). An error names state
 * that the image has no field for, such as AMX tiles in use.
 */
MUST_USE struct error *arch_core_save(const struct arch_fpu_layout *layout, const struct arch_registers *registers,
                                      const struct arch_fpu *fpu, CoreEntry *core);

/* set_tid_address(2)'s address of a core that arch_core_save() has filled. */
void arch_core_set_clear_tid(CoreEntry *core, uint64_t address);
uint64_t arch_core_clear_tid(const CoreEntry *core);

/*
 * An error that names what this processor lacks and the program may use, because it found it where it began: also where
 * none of its registers is in use just now.
 */
MUST_USE struct error *arch_core_preflight(const struct arch_fpu_layout *layout, const CoreEntry *core);

/* The way back. The FPU area is laid out as this processor wants it (it may differ between processors); an error says
 * what the processor lacks. The caller frees ret_fpu. */
MUST_USE struct error *arch_core_restore(const struct arch_fpu_layout *layout, const CoreEntry *core,
                                         struct arch_registers *ret_registers, struct arch_fpu *ret_fpu);
