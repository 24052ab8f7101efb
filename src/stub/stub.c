/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdbool.h>

#include "arch/arch.h"
#include "stub/stub.h"

static bool is_failure(int64_t result)
{
	return result < 0 && result >= -4095;
}

void stub_run(struct stub_control *control)
{
	for (uint32_t i = 0; i < control->count; i++) {
		struct stub_call *call = &control->calls[i];
		uint64_t arg[6];

		for (unsigned n = 0; n < 6; n++) {
			arg[n] = call->arg[n];
			if (call->results & (1U << n))
				arg[n] = (uint64_t)control->calls[call->arg[n]].result;
			if (call->loads & (1U << n))
				arg[n] = (uint64_t)(int64_t) * (const int32_t *)call->arg[n];
		}
		call->result = arch_syscall(call->number, arg);
		if (is_failure(call->result) && !(call->flags & STUB_MAY_FAIL))
			return;
		control->done = i + 1;
	}
}
