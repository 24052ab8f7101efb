/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Processor state that comes from another machine: what is missing here is found before anything is made. */
#include <errno.h>
#include <string.h>

#include "arch/x86_64/core.h"
#include "lib/unit.h"
#include "util/alloc.h"

enum { MPX_WORDS = 8, KEYS_WORDS = 2 };

/* A thread of which only the extended state matters. */
struct sample {
	CoreEntry core;
	ThreadInfoX86 info;
	UserX86FpregsEntry fpregs;
	UserX86XsaveEntry xsave;
	uint64_t bounds[MPX_WORDS];
	uint32_t keys[KEYS_WORDS];
};

static void sample_init(struct sample *sample)
{
	*sample = (struct sample){
		.core = CORE_ENTRY__INIT,
		.info = THREAD_INFO_X86__INIT,
		.fpregs = USER_X86_FPREGS_ENTRY__INIT,
		.xsave = USER_X86_XSAVE_ENTRY__INIT,
	};
	sample->core.thread_info = &sample->info;
	sample->info.fpregs = &sample->fpregs;
	sample->fpregs.xsave = &sample->xsave;
	sample->xsave.n_bndreg_state = MPX_WORDS;
	sample->xsave.bndreg_state = sample->bounds;
}

static struct error *preflight(const struct sample *sample)
{
	struct arch_fpu_layout layout;

	arch_fpu_layout_read(&layout);
	return arch_core_preflight(&layout, &sample->core);
}

static void test_a_missing_feature_that_is_in_use_is_named(void **state)
{
	struct sample sample;

	(void)state;
	sample_init(&sample);
	sample.xsave.xstate_bv = 1 << 3; /* no kernel since Linux 5.6 lets a program have MPX */
	auto_error struct error *error = preflight(&sample);
	assert_non_null(error);
	auto_free char *line = error_line(error);
	assert_non_null(strstr(line, "no MPX"));
	assert_int_equal(error_errnum(error), ENOTSUP);
}

static void test_bounds_that_are_not_in_use_are_no_hindrance(void **state)
{
	struct sample sample;

	(void)state;
	sample_init(&sample);
	assert_null(preflight(&sample));
}

static void test_rights_of_keys_as_at_the_start_need_no_keys(void **state)
{
	struct sample sample;

	(void)state;
	sample_init(&sample);
	sample.xsave.xstate_bv = 1 << 9;
	sample.xsave.n_pkru = KEYS_WORDS;
	sample.xsave.pkru = sample.keys;
	sample.keys[0] = 0x55555554;
	assert_null(preflight(&sample));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_missing_feature_that_is_in_use_is_named),
		cmocka_unit_test(test_bounds_that_are_not_in_use_are_no_hindrance),
		cmocka_unit_test(test_rights_of_keys_as_at_the_start_need_no_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
