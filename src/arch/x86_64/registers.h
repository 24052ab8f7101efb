/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The registers of a thread in a ptrace stop, and the code that brings a thread back to where it was. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "arch/x86_64/stub_leave.h"

struct arch_registers {
	struct user_regs_struct user;
	/* Which call restart_syscall(2) goes on with: of a rewound thread. 0: it isn't in one; -1: nobody knows. */
	long restart_of;
};

/* The FPU state as PTRACE_GETREGSET gives it with NT_X86_XSTATE: an XSAVE area. */
struct arch_fpu {
	void *bytes; /* owned */
	size_t size_bytes;
};

enum {
	ARCH_TRAMPOLINE_BYTES = 128,
	ARCH_XSAVE_BYTES_MAX = 65536,
};

/* Each returns 0 or a negative errno of ptrace(2). */
int arch_registers_get(pid_t tid, struct arch_registers *ret_registers);
int arch_registers_set(pid_t tid, const struct arch_registers *registers);
int arch_fpu_get(pid_t tid, struct arch_fpu *ret_fpu);
int arch_fpu_set(pid_t tid, const struct arch_fpu *fpu);
void arch_fpu_free(struct arch_fpu *fpu);

/*
 * Turns the registers of a ptrace stop into those of the place where the thread goes on: a system call that the stop
 * interrupted is made again, from its first byte.
 *
 * "Made again" is right also for calls that return EINTR to a handler even with SA_RESTART (epoll_wait(2) and such,
 * see signal(7)) as long as no signal handler ran: then the stop alone caused the EINTR.
 */
void arch_registers_rewind(struct arch_registers *registers);

/*
 * A call that was restarted before has lost its number in the kernel's eyes. The code before the system call tells it,
 * if it was a constant: bytes are the ARCH_CALL_BYTES that end where the thread goes on.
 */
enum { ARCH_CALL_BYTES = 5 };
bool arch_registers_needs_call(const struct arch_registers *registers);
void arch_registers_find_call(struct arch_registers *registers, const uint8_t bytes[ARCH_CALL_BYTES]);

uint64_t arch_instruction_pointer(const struct arch_registers *registers);
void arch_set_instruction_pointer(struct arch_registers *registers, uint64_t address);
uint64_t arch_stack_pointer(const struct arch_registers *registers);

/* Makes a thread go to a C function with one argument on a stack of its own. */
void arch_registers_call(struct arch_registers *registers, uint64_t function, uint64_t argument, uint64_t stack_top);

/* Makes a thread execute a system call at an address where a trampoline begins. */
void arch_registers_syscall(struct arch_registers *registers, uint64_t trampoline, long number,
                            const uint64_t arguments[6]);
int64_t arch_syscall_result(const struct arch_registers *registers);

/*
 * The code that makes a system call and then goes on at registers, whatever the call did: a thread that is in it is
 * safe without us. Just before the end it writes 1 to the 32-bit word at left_address (0: no such word); then only
 * two instructions are left. A signal handler may run at any place in it, and come back to it.
 */
void arch_trampoline(uint8_t ret_code[ARCH_TRAMPOLINE_BYTES], const struct arch_registers *registers,
                     uint64_t left_address);

/* The part of registers that the stub's exit puts back by itself. */
void arch_saved_set(struct arch_saved *saved, const struct arch_registers *registers, uint64_t trampoline);
