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
};

/* The FPU state as PTRACE_GETREGSET gives it with NT_X86_XSTATE: an XSAVE area. */
struct arch_fpu {
	void *bytes; /* owned */
	size_t size_bytes;
};

enum {
	ARCH_TRAMPOLINE_BYTES = 128,
	ARCH_GUARDED_BYTES = 256,
	ARCH_GUARDED_MADE = 33, /* from here on the call has been made */
	ARCH_XSAVE_BYTES_MAX = 65536,
	ARCH_JUMP_BYTES = 14,
};

/* Each returns 0 or a negative errno of ptrace(2). */
int arch_registers_get(pid_t tid, struct arch_registers *ret_registers);
int arch_registers_set(pid_t tid, const struct arch_registers *registers);
int arch_fpu_get(pid_t tid, struct arch_fpu *ret_fpu);
int arch_fpu_set(pid_t tid, const struct arch_fpu *fpu);
void arch_fpu_free(struct arch_fpu *fpu);

/*
 * A system call that a stop has interrupted. As long as the thread is in the stop that PTRACE_INTERRUPT makes, its
 * registers say so to the kernel, which then does what is right: it makes the call again, or runs a signal handler
 * first and lets the call end with EINTR where that is its way: signal(7).
 *
 * ARCH_CALL_NONE: the thread isn't in a call. What restart_syscall(2) goes on with is told by nobody.
 */
enum { ARCH_CALL_NONE = -1, ARCH_CALL_ARGUMENTS = 6, ARCH_CALL_BYTES = 5 };
long arch_call_number(const struct arch_registers *registers);
uint64_t arch_call_argument(const struct arch_registers *registers, unsigned index);

/*
 * Calls such as epoll_wait(2) end with EINTR even if it was only a stop that interrupted them: signal(7). Changes that
 * into what the kernel has for calls that only a handler ends. True: it was so, and the thread has to be given these
 * registers.
 */
bool arch_call_mend(struct arch_registers *registers);

/* Another number or argument for the call when it is made again. */
void arch_call_change(struct arch_registers *registers, long number, unsigned index, uint64_t argument);

/*
 * What the kernel means to do about the call: one of the ERESTART… numbers, 512 to 516, of Linux's include/linux/errno.h.
 * 0: it isn't in one.
 */
enum { ARCH_CALL_AGAIN_UNLESS_HANDLED = 514, ARCH_CALL_FROM_BLOCK = 516 };
unsigned arch_call_outcome(const struct arch_registers *registers);

/* Registers at the first byte of a call, as an image has them, become those of a thread that has been interrupted in it.
 * False: there is no such outcome. */
bool arch_call_resume(struct arch_registers *registers, unsigned outcome);

/* The thread has no restart block: a call that was to go on by it is made again. */
void arch_call_forget_block(struct arch_registers *registers);

/* The code before a system call tells which, if that was a constant: bytes are those that end behind the call.
 * ARCH_CALL_NONE: it doesn't. */
long arch_call_in_code(const uint8_t bytes[ARCH_CALL_BYTES + 2]);

/* Where the thread goes on without the kernel's help: a call that was interrupted is made again, from its first byte. */
void arch_registers_rewind(struct arch_registers *registers);

/*
 * The same for another kernel, which has no restart block. number is the call that was made, ARCH_CALL_NONE where it
 * isn't known: then it ends with EINTR.
 */
void arch_registers_rewind_elsewhere(struct arch_registers *registers, long number);

uint64_t arch_instruction_pointer(const struct arch_registers *registers);
void arch_set_instruction_pointer(struct arch_registers *registers, uint64_t address);
uint64_t arch_stack_pointer(const struct arch_registers *registers);

/* Makes a thread go to a C function with one argument on a stack of its own. */
void arch_registers_call(struct arch_registers *registers, uint64_t function, uint64_t argument, uint64_t stack_top);

/* Makes a thread execute a system call at an address where a trampoline begins. */
void arch_registers_syscall(struct arch_registers *registers, uint64_t trampoline, long number,
                            const uint64_t arguments[6]);

/* A thread has stopped at the entry of a call: makes another one of it. */
void arch_registers_enter(struct arch_registers *registers, long number, const uint64_t arguments[6]);
int64_t arch_syscall_result(const struct arch_registers *registers);

/*
 * The code that makes a system call and then goes on at registers, whatever the call did: a thread that is in it is
 * safe without us. Just before the end it writes 1 to the 32-bit word at left_address (0: no such word); then only
 * two instructions are left. A signal handler may run at any place in it, and come back to it.
 */
void arch_trampoline(uint8_t ret_code[ARCH_TRAMPOLINE_BYTES], const struct arch_registers *registers,
                     uint64_t left_address);

/*
 * A trampoline that makes its call only if the 32-bit word at owner_address is owner, and then waits for it to become
 * another one, before the thread goes on at registers. What the call returned is at result_address, and then 1 in the 32-bit
 * word at made_address; until the end it is in the register for it, too. It needs no stack and changes no flag, so the
 * thread can be stopped and sent elsewhere at any instruction.
 */
struct arch_guard {
	uint64_t owner_address, result_address, made_address;
	uint32_t owner;
};
void arch_guarded_trampoline(uint8_t ret_code[ARCH_GUARDED_BYTES], const struct arch_registers *registers,
                             const struct arch_guard *guard);

/* A jump to anywhere, which changes no register. */
void arch_jump(uint8_t ret_code[ARCH_JUMP_BYTES], uint64_t target);

/* The part of registers that the stub's exit puts back by itself. */
void arch_saved_set(struct arch_saved *saved, const struct arch_registers *registers, uint64_t trampoline);
