/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "arch/x86_64/registers.h"
#include "util/alloc.h"
#include "util/negative_errno.h"

/* What a call returns inside the kernel when a stop interrupted it: include/linux/errno.h. */
enum {
	RESTART_SYS = -512,
	RESTART_NO_INTERRUPT = -513,
	RESTART_NO_HANDLER = -ARCH_CALL_AGAIN_UNLESS_HANDLED,
	RESTART_BLOCK = -ARCH_CALL_FROM_BLOCK,
};

enum {
	SYSCALL_INSTRUCTION_BYTES = 2,
	FLAG_TRAP = 0x100,
	FLAG_DIRECTION = 0x400,
};

int arch_registers_get(pid_t tid, struct arch_registers *ret_registers)
{
	return ptrace(PTRACE_GETREGS, tid, NULL, &ret_registers->user) < 0 ? negative_errno() : 0;
}

int arch_registers_set(pid_t tid, const struct arch_registers *registers)
{
	return ptrace(PTRACE_SETREGS, tid, NULL, &registers->user) < 0 ? negative_errno() : 0;
}

int arch_fpu_get(pid_t tid, struct arch_fpu *ret_fpu)
{
	unsigned char area[ARCH_XSAVE_BYTES_MAX];
	struct iovec vector = {.iov_base = area, .iov_len = sizeof(area)};

	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &vector) < 0)
		return negative_errno();
	ret_fpu->bytes = xalloc(vector.iov_len);
	ret_fpu->size_bytes = vector.iov_len;
	memcpy(ret_fpu->bytes, area, vector.iov_len);
	return 0;
}

int arch_fpu_set(pid_t tid, const struct arch_fpu *fpu)
{
	struct iovec vector = {.iov_base = fpu->bytes, .iov_len = fpu->size_bytes};

	return ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &vector) < 0 ? negative_errno() : 0;
}

void arch_fpu_free(struct arch_fpu *fpu)
{
	free(fpu->bytes);
	*fpu = (struct arch_fpu){0};
}

/* ---- Interrupted calls ---- */

/*
 * Calls that end with EINTR, not with a restart, when a stop without a signal interrupts them: signal(7), "Interruption
 * of system calls and library functions by stop signals", and what was seen. The select(2) family is among them for
 * time-outs that the kernel can't write back, because they are in read-only memory.
 */
static bool is_ended_by_stop(unsigned long long number)
{
	switch (number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_rt_sigtimedwait:
	case SYS_select:
	case SYS_pselect6:
	case SYS_ppoll:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_msgsnd:
	case SYS_msgrcv:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
	case SYS_splice:
	case SYS_read:
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
		return true;
	default:
		return false;
	}
}

static bool is_again(const struct user_regs_struct *user)
{
	long long result = (long long)user->rax;

	return result == RESTART_SYS || result == RESTART_NO_INTERRUPT || result == RESTART_NO_HANDLER;
}

static bool is_in_call(const struct user_regs_struct *user)
{
	return (long long)user->orig_rax >= 0 && (is_again(user) || (long long)user->rax == RESTART_BLOCK);
}

long arch_call_number(const struct arch_registers *registers)
{
	return is_in_call(&registers->user) ? (long)registers->user.orig_rax : ARCH_CALL_NONE;
}

/* Where user_regs_struct has them: syscall(2), "Architecture calling conventions". */
static const size_t argument_offsets[ARCH_CALL_ARGUMENTS] = {
	offsetof(struct user_regs_struct, rdi), offsetof(struct user_regs_struct, rsi),
	offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, r10),
	offsetof(struct user_regs_struct, r8),  offsetof(struct user_regs_struct, r9),
};

uint64_t arch_call_argument(const struct arch_registers *registers, unsigned index)
{
	uint64_t value;

	memcpy(&value, (const char *)&registers->user + argument_offsets[index], sizeof(value));
	return value;
}

unsigned arch_call_outcome(const struct arch_registers *registers)
{
	return is_in_call(&registers->user) ? (unsigned)-(long long)registers->user.rax : 0;
}

bool arch_call_mend(struct arch_registers *registers)
{
	struct user_regs_struct *user = &registers->user;

	if ((long long)user->orig_rax < 0 || (long long)user->rax != -EINTR || !is_ended_by_stop(user->orig_rax))
		return false;
	user->rax = (unsigned long long)RESTART_NO_HANDLER;
	return true;
}

void arch_call_change(struct arch_registers *registers, long number, unsigned index, uint64_t argument)
{
	registers->user.orig_rax = (unsigned long long)number;
	memcpy((char *)&registers->user + argument_offsets[index], &argument, sizeof(argument));
}

bool arch_call_resume(struct arch_registers *registers, unsigned outcome)
{
	struct user_regs_struct *user = &registers->user;

	user->orig_rax = user->rax;
	user->rax = -(unsigned long long)outcome;
	user->rip += SYSCALL_INSTRUCTION_BYTES;
	return is_in_call(user);
}

void arch_call_forget_block(struct arch_registers *registers)
{
	if (arch_call_outcome(registers) == ARCH_CALL_FROM_BLOCK)
		registers->user.rax = (unsigned long long)RESTART_NO_HANDLER;
}

long arch_call_in_code(const uint8_t bytes[ARCH_CALL_BYTES + 2])
{
	enum { MOVE_TO_EAX = 0xb8 };
	static const uint8_t call[SYSCALL_INSTRUCTION_BYTES] = {0x0f, 0x05};
	uint32_t number;

	if (bytes[0] != MOVE_TO_EAX || memcmp(bytes + ARCH_CALL_BYTES, call, sizeof(call)) != 0)
		return ARCH_CALL_NONE;
	memcpy(&number, bytes + 1, sizeof(number));
	return number;
}

void arch_registers_rewind(struct arch_registers *registers)
{
	struct user_regs_struct *user = &registers->user;

	if (is_in_call(user)) {
		user->rax = is_again(user) ? user->orig_rax : SYS_restart_syscall;
		user->rip -= SYSCALL_INSTRUCTION_BYTES;
	}
	user->orig_rax = (unsigned long long)-1;
}

void arch_registers_rewind_elsewhere(struct arch_registers *registers, long number)
{
	struct user_regs_struct *user = &registers->user;

	if (is_in_call(user) && number == ARCH_CALL_NONE)
		user->rax = (unsigned long long)-EINTR;
	else if (is_in_call(user)) {
		user->rax = (unsigned long long)number;
		user->rip -= SYSCALL_INSTRUCTION_BYTES;
	}
	user->orig_rax = (unsigned long long)-1;
}

uint64_t arch_instruction_pointer(const struct arch_registers *registers)
{
	return registers->user.rip;
}

void arch_set_instruction_pointer(struct arch_registers *registers, uint64_t address)
{
	registers->user.rip = address;
}

uint64_t arch_stack_pointer(const struct arch_registers *registers)
{
	return registers->user.rsp;
}

void arch_registers_call(struct arch_registers *registers, uint64_t function, uint64_t argument, uint64_t stack_top)
{
	struct user_regs_struct *user = &registers->user;

	user->rip = function;
	user->rdi = argument;
	user->rsp = (stack_top & ~(uint64_t)15) - 8; /* as if a call instruction had pushed where to return to */
	user->eflags &= ~(unsigned long long)(FLAG_DIRECTION | FLAG_TRAP);
	user->orig_rax = (unsigned long long)-1;
}

static void set_arguments(struct user_regs_struct *user, const uint64_t arguments[6])
{
	user->rdi = arguments[0];
	user->rsi = arguments[1];
	user->rdx = arguments[2];
	user->r10 = arguments[3];
	user->r8 = arguments[4];
	user->r9 = arguments[5];
}

void arch_registers_syscall(struct arch_registers *registers, uint64_t trampoline, long number,
                            const uint64_t arguments[6])
{
	struct user_regs_struct *user = &registers->user;

	user->rip = trampoline;
	user->rax = (unsigned long long)number;
	user->orig_rax = (unsigned long long)-1;
	set_arguments(user, arguments);
}

void arch_registers_enter(struct arch_registers *registers, long number, const uint64_t arguments[6])
{
	registers->user.orig_rax = (unsigned long long)number;
	set_arguments(&registers->user, arguments);
}

int64_t arch_syscall_result(const struct arch_registers *registers)
{
	return (int64_t)registers->user.rax;
}

static uint8_t *put_constant(uint8_t *at, const uint8_t opcode[2], uint64_t value)
{
	at = mempcpy(at, opcode, 2);
	return mempcpy(at, &value, sizeof(value));
}

static uint8_t *put_r11(uint8_t *at, uint64_t value)
{
	static const uint8_t set_r11[] = {0x49, 0xbb};

	return put_constant(at, set_r11, value);
}

/* mov of a constant into each register that a call changes or takes arguments in */
static uint8_t *put_registers(uint8_t *at, const struct user_regs_struct *user)
{
	const uint64_t values[] = {user->rax, user->rcx, user->rdx, user->rsi,
	                           user->rdi, user->r8,  user->r9,  user->r10};
	static const uint8_t opcodes[][2] = {{0x48, 0xb8}, {0x48, 0xb9}, {0x48, 0xba}, {0x48, 0xbe},
	                                     {0x48, 0xbf}, {0x49, 0xb8}, {0x49, 0xb9}, {0x49, 0xba}};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		at = put_constant(at, opcodes[i], values[i]);
	return at;
}

void arch_jump(uint8_t ret_code[ARCH_JUMP_BYTES], uint64_t target)
{
	static const uint8_t jump_code[] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp *(%rip): what follows */

	memcpy(mempcpy(ret_code, jump_code, sizeof(jump_code)), &target, sizeof(target));
}

/* The last register, and the jump to where the thread goes on. */
static void put_end(uint8_t *at, const struct user_regs_struct *user)
{
	arch_jump(put_r11(at, user->r11), user->rip);
}

static const uint8_t syscall_code[] = {0x0f, 0x05};
static const uint8_t store_one_code[] = {0x41, 0xc7, 0x03, 1, 0, 0, 0}; /* movl $1, (%r11) */

void arch_trampoline(uint8_t ret_code[ARCH_TRAMPOLINE_BYTES], const struct arch_registers *registers,
                     uint64_t left_address)
{
	const struct user_regs_struct *user = &registers->user;
	uint8_t *at = ret_code;

	memset(ret_code, 0, ARCH_TRAMPOLINE_BYTES);
	at = mempcpy(at, syscall_code, sizeof(syscall_code));
	at = put_registers(at, user);
	if (left_address) {
		at = put_r11(at, left_address);
		at = mempcpy(at, store_one_code, sizeof(store_one_code));
	}
	put_end(at, user);
}

/* rcx becomes 0 where the word is what it should be. lea, not a comparison: that would change the flags. */
static uint8_t *put_look(uint8_t *at, const struct arch_guard *guard)
{
	static const uint8_t load_code[] = {0x41, 0x8b, 0x0b};      /* mov (%r11), %ecx */
	static const uint8_t add_code[] = {0x4a, 0x8d, 0x0c, 0x19}; /* lea (%rcx, %r11), %rcx */

	at = put_r11(at, guard->owner_address);
	at = mempcpy(at, load_code, sizeof(load_code));
	at = put_r11(at, -(uint64_t)guard->owner);
	return mempcpy(at, add_code, sizeof(add_code));
}

static uint8_t *put_short_jump(uint8_t *at, uint8_t opcode, const uint8_t *target)
{
	at[0] = opcode;
	at[1] = (uint8_t)(target - (at + 2));
	return at + 2;
}

void arch_guarded_trampoline(uint8_t ret_code[ARCH_GUARDED_BYTES], const struct arch_registers *registers,
                             const struct arch_guard *guard)
{
	enum { JRCXZ = 0xe3, JMP = 0xeb, SHORT_JUMP_BYTES = 2, WAIT_BYTES = 61 };
	static const uint8_t store_result_code[] = {0x49, 0x89, 0x03}; /* mov %rax, (%r11) */
	static const uint8_t pause_code[] = {0xf3, 0x90};
	uint8_t *at = put_look(ret_code, guard);

	/* Over the jump to the end, which is behind the call and the waiting. */
	at = put_short_jump(at, JRCXZ, at + 2 * (size_t)SHORT_JUMP_BYTES);
	uint8_t *end = at + SHORT_JUMP_BYTES + sizeof(syscall_code) + WAIT_BYTES;
	at = put_short_jump(at, JMP, end);
	at = mempcpy(at, syscall_code, sizeof(syscall_code));
	assert(at == ret_code + ARCH_GUARDED_MADE);
	at = put_r11(at, guard->result_address);
	at = mempcpy(at, store_result_code, sizeof(store_result_code));
	at = put_r11(at, guard->made_address);
	at = mempcpy(at, store_one_code, sizeof(store_one_code));
	const uint8_t *wait = at;
	at = mempcpy(at, pause_code, sizeof(pause_code));
	at = put_look(at, guard);
	at = put_short_jump(at, JRCXZ, wait);
	assert(at == end);
	at = put_registers(at, &registers->user);
	put_end(at, &registers->user);
}

void arch_saved_set(struct arch_saved *saved, const struct arch_registers *registers, uint64_t trampoline)
{
	const struct user_regs_struct *user = &registers->user;

	*saved = (struct arch_saved){
		.rbx = user->rbx,
		.rbp = user->rbp,
		.r12 = user->r12,
		.r13 = user->r13,
		.r14 = user->r14,
		.r15 = user->r15,
		.rsp = user->rsp,
		.flags = user->eflags,
		.trampoline = trampoline,
	};
}
