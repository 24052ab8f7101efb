/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Processor state that comes from another machine: what is missing here is found before anything is made, and what is at
 * another place in the XSAVE area of this processor comes there. */
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

static void test_state_comes_to_where_this_processor_has_it(void **state)
{
	enum { AREA_BYTES = 4096, BITS_AT = 512, VECTORS_AT = 1024, KEYS_AT = 3000, YMM = 2, PKRU = 9, WORDS = 64 };
	const struct arch_fpu_layout layout = {
		.enabled = 3 | 1 << YMM | 1 << PKRU,
		.area_bytes = AREA_BYTES,
		.offsets = {[YMM] = VECTORS_AT, [PKRU] = KEYS_AT},
	};
	UserX86RegsEntry gpregs = USER_X86_REGS_ENTRY__INIT;
	struct arch_registers registers;
	struct arch_fpu fpu = {0};
	struct sample sample;
	uint32_t words[WORDS];
	uint64_t used;

	(void)state;
	sample_init(&sample);
	for (uint32_t i = 0; i < WORDS; i++)
		words[i] = 0x9e3779b9U * (i + 1);
	sample.core.mtype = CORE_ENTRY__MARCH__X86_64;
	sample.info.gpregs = &gpregs;
	gpregs.mode = USER_X86_REGS_MODE__NATIVE;
	sample.fpregs.n_st_space = 32;
	sample.fpregs.n_xmm_space = 64;
	sample.fpregs.st_space = sample.fpregs.xmm_space = words;
	sample.xsave.xstate_bv = layout.enabled;
	sample.xsave.n_ymmh_space = WORDS;
	sample.xsave.ymmh_space = words;
	sample.xsave.n_pkru = KEYS_WORDS;
	sample.xsave.pkru = sample.keys;
	sample.keys[0] = 0x12345670;
	assert_ok(arch_core_restore(&layout, &sample.core, &registers, &fpu));
	assert_int_equal(fpu.size_bytes, AREA_BYTES);
	assert_memory_equal((char *)fpu.bytes + VECTORS_AT, words, sizeof(words));
	assert_memory_equal((char *)fpu.bytes + KEYS_AT, sample.keys, sizeof(sample.keys));
	memcpy(&used, (char *)fpu.bytes + BITS_AT, sizeof(used));
	assert_int_equal(used, layout.enabled);
	arch_fpu_free(&fpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_missing_feature_that_is_in_use_is_named),
		cmocka_unit_test(test_bounds_that_are_not_in_use_are_no_hindrance),
		cmocka_unit_test(test_rights_of_keys_as_at_the_start_need_no_keys),
		cmocka_unit_test(test_state_comes_to_where_this_processor_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
