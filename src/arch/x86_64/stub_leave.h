/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * How a thread leaves the stub: a jump, not rt_sigreturn(2), which would reset the restart block, so that an
 * interrupted nanosleep(2) ended early.
 *
 * Here the registers come back that a system call preserves, the stack pointer among them. The trampoline
 * (registers.h) then makes the call that puts the signal mask back, so that a handler which runs at once runs on the
 * program's own stack, and the other registers from constants.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct arch_saved {
	uint64_t rbx, rbp, r12, r13, r14, r15, rsp;
	uint64_t flags;
	uint64_t trampoline; /* its address in the task */
};

__attribute__((noreturn, always_inline)) static inline void arch_leave(const struct arch_saved *saved,
                                                                       const uint64_t *signal_mask)
{
	__asm__ volatile(
		"mov %0, %%r11\n\t"
		"lea %c[flags](%%r11), %%rsp\n\t"
		"popfq\n\t"
		"mov %c[rbx](%%r11), %%rbx\n\t"
		"mov %c[rbp](%%r11), %%rbp\n\t"
		"mov %c[r12](%%r11), %%r12\n\t"
		"mov %c[r13](%%r11), %%r13\n\t"
		"mov %c[r14](%%r11), %%r14\n\t"
		"mov %c[r15](%%r11), %%r15\n\t"
		"mov %c[rsp](%%r11), %%rsp\n\t"
		"mov $14, %%eax\n\t" /* rt_sigprocmask(SIG_SETMASK, signal_mask, NULL, 8) */
		"mov %1, %%rsi\n\t"
		"mov $2, %%edi\n\t"
		"mov $0, %%edx\n\t" /* not xor: the flags are the program's already */
		"mov $8, %%r10d\n\t"
		"jmp *%c[trampoline](%%r11)"
		:
		: "a"(saved), "c"(signal_mask), [flags] "i"(offsetof(struct arch_saved, flags)),
		  [rbx] "i"(offsetof(struct arch_saved, rbx)), [rbp] "i"(offsetof(struct arch_saved, rbp)),
		  [r12] "i"(offsetof(struct arch_saved, r12)), [r13] "i"(offsetof(struct arch_saved, r13)),
		  [r14] "i"(offsetof(struct arch_saved, r14)), [r15] "i"(offsetof(struct arch_saved, r15)),
		  [rsp] "i"(offsetof(struct arch_saved, rsp)), [trampoline] "i"(offsetof(struct arch_saved, trampoline))
		: "memory");
	__builtin_unreachable();
}
