/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdbool.h>
#include <string.h>

#include "task/bpf.h"

struct machine {
	uint32_t a, x;
	uint32_t memory[BPF_MEMWORDS];
	const struct seccomp_data *data;
	bool is_lost; /* nobody knows what it would do */
};

static uint32_t load_data(struct machine *machine, uint32_t offset)
{
	uint32_t word;

	bool is_place = offset >= offsetof(struct seccomp_data, instruction_pointer) &&
	                offset < offsetof(struct seccomp_data, args);
	if (is_place || offset % sizeof(word) || offset > sizeof(*machine->data) - sizeof(word)) {
		machine->is_lost = true;
		return 0;
	}
	memcpy(&word, (const char *)machine->data + offset, sizeof(word));
	return word;
}

static uint32_t *cell(struct machine *machine, uint32_t number)
{
	machine->is_lost |= number >= BPF_MEMWORDS;
	return &machine->memory[number % BPF_MEMWORDS];
}

static uint32_t load(struct machine *machine, const struct sock_filter *step)
{
	switch (BPF_MODE(step->code)) {
	case BPF_ABS:
		return load_data(machine, step->k);
	case BPF_IMM:
		return step->k;
	case BPF_MEM:
		return *cell(machine, step->k);
	case BPF_LEN:
		return sizeof(*machine->data);
	default:
		machine->is_lost = true;
		return 0;
	}
}

static uint32_t calculate(struct machine *machine, uint16_t operation, uint32_t operand)
{
	switch (operation) {
	case BPF_ADD:
		return machine->a + operand;
	case BPF_SUB:
		return machine->a - operand;
	case BPF_MUL:
		return machine->a * operand;
	case BPF_DIV:
		machine->is_lost |= operand == 0;
		return operand ? machine->a / operand : 0;
	case BPF_AND:
		return machine->a & operand;
	case BPF_OR:
		return machine->a | operand;
	case BPF_XOR:
		return machine->a ^ operand;
	case BPF_LSH:
		return operand < 32 ? machine->a << operand : 0;
	case BPF_RSH:
		return operand < 32 ? machine->a >> operand : 0;
	case BPF_NEG:
		return -machine->a;
	default:
		machine->is_lost = true;
		return 0;
	}
}

/* How many steps are left out. */
static uint32_t jump(struct machine *machine, const struct sock_filter *step, uint32_t operand)
{
	bool is_true = false;

	switch (BPF_OP(step->code)) {
	case BPF_JA:
		return step->k;
	case BPF_JEQ:
		is_true = machine->a == operand;
		break;
	case BPF_JGT:
		is_true = machine->a > operand;
		break;
	case BPF_JGE:
		is_true = machine->a >= operand;
		break;
	case BPF_JSET:
		is_true = machine->a & operand;
		break;
	default:
		machine->is_lost = true;
	}
	return is_true ? step->jt : step->jf;
}

/* All but jumps and the end. */
static void execute(struct machine *machine, const struct sock_filter *step, uint32_t operand)
{
	switch (BPF_CLASS(step->code)) {
	case BPF_LD:
		machine->a = load(machine, step);
		return;
	case BPF_LDX:
		machine->x = load(machine, step);
		return;
	case BPF_ST:
		*cell(machine, step->k) = machine->a;
		return;
	case BPF_STX:
		*cell(machine, step->k) = machine->x;
		return;
	case BPF_ALU:
		machine->a = calculate(machine, BPF_OP(step->code), operand);
		return;
	case BPF_MISC:
		if (BPF_MISCOP(step->code) == BPF_TAX)
			machine->x = machine->a;
		else
			machine->a = machine->x;
		return;
	default:
		machine->is_lost = true;
	}
}

uint32_t bpf_run(const struct sock_filter *code, size_t count, const struct seccomp_data *data)
{
	struct machine machine = {.data = data};

	/* Jumps only lead forward. */
	for (size_t i = 0; i < count && !machine.is_lost; i++) {
		const struct sock_filter *step = &code[i];
		uint32_t operand = BPF_SRC(step->code) == BPF_X ? machine.x : step->k;

		if (BPF_CLASS(step->code) == BPF_RET)
			return BPF_RVAL(step->code) == BPF_A ? machine.a : step->k;
		if (BPF_CLASS(step->code) == BPF_JMP)
			i += jump(&machine, step, operand);
		else
			execute(&machine, step, operand);
	}
	return SECCOMP_RET_KILL_PROCESS;
}
