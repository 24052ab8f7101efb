/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What a seccomp filter says, found out beforehand: as the kernel would say it. */
#include <linux/audit.h>
#include <sys/syscall.h>

#include "lib/unit.h"
#include "task/bpf.h"

#define COUNT(code) (sizeof(code) / sizeof((code)[0]))
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))

static const struct seccomp_data data = {
	.nr = SYS_futex,
	.arch = AUDIT_ARCH_X86_64,
	.args = {0x1122334455667788, 1},
};

static void test_a_list_of_numbers(void **state)
{
	const struct sock_filter code[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_futex + 1, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_futex - 1, 0, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ERRNO | 5),
	};
	struct seccomp_data other = data;

	(void)state;
	assert_int_equal(bpf_run(code, COUNT(code), &data), SECCOMP_RET_ALLOW);
	other.nr = SYS_read;
	assert_int_equal(bpf_run(code, COUNT(code), &other), SECCOMP_RET_ERRNO | 5);
	other.arch = AUDIT_ARCH_I386;
	assert_int_equal(bpf_run(code, COUNT(code), &other), SECCOMP_RET_KILL_PROCESS);
}

static void test_arithmetic_memory_and_a_computed_answer(void **state)
{
	/* ((low word of the argument & 0xff) * 3 - 8) >> 2 ^ x, through memory and the other register */
	const struct sock_filter code[] = {
		LOAD(args[0]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
		BPF_STMT(BPF_ST, 7),
		BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 3),
		BPF_STMT(BPF_LD | BPF_MEM, 7),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 8),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 2),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		LOAD(args[1]),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};

	(void)state;
	assert_int_equal(bpf_run(code, COUNT(code), &data), ((0x88 * 3 - 8) >> 2) ^ 1);
}

static void test_the_upper_half_of_an_argument(void **state)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x11223344, 0, 1),
		RETURN(SECCOMP_RET_LOG),
		RETURN(SECCOMP_RET_TRAP),
	};

	(void)state;
	assert_int_equal(bpf_run(code, COUNT(code), &data), SECCOMP_RET_LOG);
}

static void test_a_filter_that_looks_at_the_place_allows_nothing_for_sure(void **state)
{
	const struct sock_filter code[] = {LOAD(instruction_pointer), RETURN(SECCOMP_RET_ALLOW)};

	(void)state;
	assert_int_equal(bpf_run(code, COUNT(code), &data), SECCOMP_RET_KILL_PROCESS);
}

static void test_code_that_is_none_allows_nothing(void **state)
{
	const struct sock_filter no_end[] = {LOAD(nr)};
	const struct sock_filter far_jump[] = {BPF_STMT(BPF_JMP | BPF_JA, 1000), RETURN(SECCOMP_RET_ALLOW)};
	const struct sock_filter division[] = {
		BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 0),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
		RETURN(SECCOMP_RET_ALLOW),
	};
	const struct sock_filter no_cell[] = {BPF_STMT(BPF_ST, 16), RETURN(SECCOMP_RET_ALLOW)};

	(void)state;
	assert_int_equal(bpf_run(no_end, COUNT(no_end), &data), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(bpf_run(far_jump, COUNT(far_jump), &data), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(bpf_run(division, COUNT(division), &data), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(bpf_run(no_cell, COUNT(no_cell), &data), SECCOMP_RET_KILL_PROCESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_list_of_numbers),
		cmocka_unit_test(test_arithmetic_memory_and_a_computed_answer),
		cmocka_unit_test(test_the_upper_half_of_an_argument),
		cmocka_unit_test(test_a_filter_that_looks_at_the_place_allows_nothing_for_sure),
		cmocka_unit_test(test_code_that_is_none_allows_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
