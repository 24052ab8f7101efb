/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "arch/x86_64/core.h"
#include "util/alloc.h"

/* The XSAVE area in its standard format: Intel SDM volume 1, chapter 13. Where a component lies, CPUID tells. */
enum {
	LEGACY_BYTES = 512,
	HEADER_BYTES = 64,
	XSTATE_BV_OFFSET = LEGACY_BYTES,
	CPUID_XSAVE = 0xd,
};

/* The part that FXSAVE has always had. */
struct legacy_area {
	uint16_t cwd, swd, twd, fop;
	uint64_t rip, rdp;
	uint32_t mxcsr, mxcsr_mask;
	uint32_t st_space[32];
	uint32_t xmm_space[64];
	uint32_t padding[24];
};
_Static_assert(sizeof(struct legacy_area) == LEGACY_BYTES, "as the processor has it");

/* Numbers of components that need a word of their own. */
enum { BOUND_REGISTERS = 3, BOUND_CONTROL = 4, KEY_RIGHTS = 9 };

/* A component that the image has a field for: an array of 4 or 8 byte words. */
struct component {
	const char *name;    /* of its field */
	const char *feature; /* as people call it */
	unsigned number;
	size_t size_bytes, word_bytes;
	size_t count_offset, words_offset; /* in UserX86XsaveEntry */
};
#define COMPONENT(field, feature_, number_, size, word)                                           \
	{                                                                                         \
		.name = #field, .feature = (feature_), .number = (number_), .size_bytes = (size), \
		.word_bytes = (word), .count_offset = offsetof(UserX86XsaveEntry, n_##field),     \
		.words_offset = offsetof(UserX86XsaveEntry, field),                               \
	}
static const struct component components[] = {
	COMPONENT(ymmh_space, "AVX", 2, 256, 4),
	COMPONENT(bndreg_state, "MPX", BOUND_REGISTERS, 64, 8),
	COMPONENT(bndcsr_state, "MPX", BOUND_CONTROL, 64, 8),
	COMPONENT(opmask_reg, "AVX-512", 5, 64, 8),
	COMPONENT(zmm_upper, "AVX-512", 6, 512, 8),
	COMPONENT(hi16_zmm, "AVX-512", 7, 1024, 8),
	COMPONENT(pkru, "protection keys", KEY_RIGHTS, 8, 4),
};
enum { COMPONENT_COUNT = sizeof(components) / sizeof(components[0]), LEGACY_COMPONENTS = 3 /* x87 and SSE */ };

/* What the kernel gives each program: key 0 alone may be used. */
static const uint32_t key_rights_at_start = 0x55555554;

/* XGETBV: the components that the kernel lets programs use. */
static uint64_t read_enabled(void)
{
	unsigned a;
	unsigned b;
	unsigned c = 0;
	unsigned d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return LEGACY_COMPONENTS;
	__asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

static size_t read_offset(unsigned number)
{
	unsigned size;
	unsigned offset;
	unsigned flags;
	unsigned unused;

	if (!__get_cpuid_count(CPUID_XSAVE, number, &size, &offset, &flags, &unused) || size == 0)
		return 0;
	return offset;
}

static size_t read_area_bytes(void)
{
	unsigned enabled;
	unsigned size;
	unsigned unused[2];

	if (!__get_cpuid_count(CPUID_XSAVE, 0, &unused[0], &enabled, &size, &unused[1]))
		return LEGACY_BYTES + HEADER_BYTES;
	return enabled;
}

void arch_fpu_layout_read(struct arch_fpu_layout *ret_layout)
{
	ret_layout->enabled = read_enabled();
	ret_layout->area_bytes = read_area_bytes();
	for (unsigned number = 0; number < ARCH_FPU_COMPONENTS; number++)
		ret_layout->offsets[number] = number < 2 ? 0 : read_offset(number);
}

static void *copy_of(const void *bytes, size_t size_bytes)
{
	return memcpy(xalloc(size_bytes), bytes, size_bytes);
}

/* ---- Saving ---- */

static void save_component(const struct arch_fpu_layout *layout, const struct component *component, const uint8_t *area,
                           UserX86XsaveEntry *xsave)
{
	size_t offset = layout->offsets[component->number];
	size_t count = component->size_bytes / component->word_bytes;
	void *words = copy_of(area + offset, component->size_bytes);

	memcpy((char *)xsave + component->count_offset, &count, sizeof(count));
	memcpy((char *)xsave + component->words_offset, &words, sizeof(words));
}

static struct error *save_extended(const struct arch_fpu_layout *layout, const struct arch_fpu *fpu,
                                   UserX86XsaveEntry *xsave)
{
	const uint8_t *area = fpu->bytes;
	uint64_t known = LEGACY_COMPONENTS;
	uint64_t used;

	memcpy(&used, area + XSTATE_BV_OFFSET, sizeof(used));
	for (size_t i = 0; i < COMPONENT_COUNT; i++) {
		const struct component *component = &components[i];
		size_t offset = layout->offsets[component->number];

		known |= UINT64_C(1) << component->number;
		if (offset && offset + component->size_bytes <= fpu->size_bytes)
			save_component(layout, component, area, xsave);
	}
	if (used & ~known)
		return error_new(ENOTSUP, "processor state components %#llx are in use",
		                 (unsigned long long)(used & ~known));
	xsave->xstate_bv = used;
	return NULL;
}

static struct error *save_fpu(const struct arch_fpu_layout *layout, const struct arch_fpu *fpu,
                              UserX86FpregsEntry *entry)
{
	struct legacy_area legacy;

	if (fpu->size_bytes < LEGACY_BYTES)
		return error_new(EPROTO, "FPU area of %zu bytes", fpu->size_bytes);
	memcpy(&legacy, fpu->bytes, sizeof(legacy));
	entry->cwd = legacy.cwd;
	entry->swd = legacy.swd;
	entry->twd = legacy.twd;
	entry->fop = legacy.fop;
	entry->rip = legacy.rip;
	entry->rdp = legacy.rdp;
	entry->mxcsr = legacy.mxcsr;
	entry->mxcsr_mask = legacy.mxcsr_mask;
	entry->n_st_space = 32;
	entry->st_space = copy_of(legacy.st_space, sizeof(legacy.st_space));
	entry->n_xmm_space = 64;
	entry->xmm_space = copy_of(legacy.xmm_space, sizeof(legacy.xmm_space));
	entry->n_padding = 24;
	entry->padding = copy_of(legacy.padding, sizeof(legacy.padding));
	if (fpu->size_bytes < LEGACY_BYTES + HEADER_BYTES)
		return NULL;
	entry->xsave = xalloc(sizeof(*entry->xsave));
	user_x86_xsave_entry__init(entry->xsave);
	return save_extended(layout, fpu, entry->xsave);
}

/* The registers that both sides have under one name each: kernel's, image's. */
/* clang-format off */
#define FOR_EACH_REGISTER(DO) \
	DO(r15, r15) DO(r14, r14) DO(r13, r13) DO(r12, r12) DO(rbp, bp) DO(rbx, bx) DO(r11, r11) \
	DO(r10, r10) DO(r9, r9) DO(r8, r8) DO(rax, ax) DO(rcx, cx) DO(rdx, dx) DO(rsi, si) DO(rdi, di) \
	DO(orig_rax, orig_ax) DO(rip, ip) DO(cs, cs) DO(eflags, flags) DO(rsp, sp) DO(ss, ss) \
	DO(fs_base, fs_base) DO(gs_base, gs_base) DO(ds, ds) DO(es, es) DO(fs, fs) DO(gs, gs)
/* clang-format on */

struct error *arch_core_save(const struct arch_fpu_layout *layout, const struct arch_registers *registers,
                             const struct arch_fpu *fpu, CoreEntry *core)
{
	enum { SEGMENT_64_BITS = 0x33 }; /* __USER_CS */
	if (registers->user.cs != SEGMENT_64_BITS)
		return error_new(ENOTSUP, "it runs in 32-bit mode (code segment %#llx)", registers->user.cs);

	ThreadInfoX86 *info = xalloc(sizeof(*info));
	UserX86RegsEntry *gpregs = xalloc(sizeof(*gpregs));
	UserX86FpregsEntry *fpregs = xalloc(sizeof(*fpregs));

	thread_info_x86__init(info);
	user_x86_regs_entry__init(gpregs);
	user_x86_fpregs_entry__init(fpregs);
	info->gpregs = gpregs;
	info->fpregs = fpregs;
	core->mtype = CORE_ENTRY__MARCH__X86_64;
	core->thread_info = info;
#define SAVE(kernel, image) gpregs->image = registers->user.kernel;
	FOR_EACH_REGISTER(SAVE)
#undef SAVE
	gpregs->has_mode = true;
	gpregs->mode = USER_X86_REGS_MODE__NATIVE;
	return save_fpu(layout, fpu, fpregs);
}

void arch_core_set_clear_tid(CoreEntry *core, uint64_t address)
{
	core->thread_info->clear_tid_addr = address;
}

uint64_t arch_core_clear_tid(const CoreEntry *core)
{
	return core->thread_info->clear_tid_addr;
}

/* ---- Restoring ---- */

/* Is it something that the program can't do without? */
static bool is_needed(const struct component *component, const UserX86XsaveEntry *xsave)
{
	bool is_used = xsave->xstate_bv & (UINT64_C(1) << component->number);
	size_t count;

	memcpy(&count, (const char *)xsave + component->count_offset, sizeof(count));
	/* No compiler and no library uses MPX any more; the rights of keys are never in their first state. */
	if (component->number == BOUND_REGISTERS || component->number == BOUND_CONTROL)
		return is_used;
	if (component->number == KEY_RIGHTS)
		return is_used && count > 0 && xsave->pkru[0] != key_rights_at_start;
	return count > 0 || is_used;
}

static struct error *check_component(const struct arch_fpu_layout *layout, const struct component *component,
                                     const UserX86XsaveEntry *xsave)
{
	if (!is_needed(component, xsave) || (layout->enabled & (UINT64_C(1) << component->number)))
		return NULL;
	return error_hint(error_new(ENOTSUP, "this processor has no %s, which the program may use", component->feature),
	                  "move it to a host whose processor has the features of the first one");
}

struct error *arch_core_preflight(const struct arch_fpu_layout *layout, const CoreEntry *core)
{
	const UserX86FpregsEntry *fpregs = core->thread_info ? core->thread_info->fpregs : NULL;

	for (size_t i = 0; fpregs && fpregs->xsave && i < COMPONENT_COUNT; i++)
		TRY(check_component(layout, &components[i], fpregs->xsave));
	return NULL;
}

static struct error *restore_component(const struct arch_fpu_layout *layout, const struct component *component,
                                       const UserX86XsaveEntry *xsave, struct arch_fpu *fpu)
{
	bool is_used = xsave->xstate_bv & (UINT64_C(1) << component->number);
	size_t offset = layout->offsets[component->number];
	size_t count;
	const void *words;

	memcpy(&count, (const char *)xsave + component->count_offset, sizeof(count));
	memcpy(&words, (const char *)xsave + component->words_offset, sizeof(words));
	TRY(check_component(layout, component, xsave));
	if (!is_used || !offset)
		return NULL;
	if (count != component->size_bytes / component->word_bytes)
		return error_new(EBADMSG, "%s of %zu words", component->name, count);
	if (offset + component->size_bytes > fpu->size_bytes)
		return error_new(EPROTO, "%s beyond the end of the XSAVE area", component->name);
	memcpy((uint8_t *)fpu->bytes + offset, words, component->size_bytes);
	return NULL;
}

static struct error *restore_extended(const struct arch_fpu_layout *layout, const UserX86XsaveEntry *xsave,
                                      struct arch_fpu *fpu)
{
	uint8_t *area = fpu->bytes;
	uint64_t known = LEGACY_COMPONENTS;

	for (size_t i = 0; i < COMPONENT_COUNT; i++) {
		known |= UINT64_C(1) << components[i].number;
		TRY(restore_component(layout, &components[i], xsave, fpu));
	}
	if (xsave->xstate_bv & ~known)
		return error_new(EBADMSG, "processor state components %#llx", (unsigned long long)xsave->xstate_bv);
	uint64_t used = xsave->xstate_bv & layout->enabled;
	memcpy(area + XSTATE_BV_OFFSET, &used, sizeof(used));
	return NULL;
}

static struct error *restore_fpu(const struct arch_fpu_layout *layout, const UserX86FpregsEntry *entry,
                                 struct arch_fpu *fpu)
{
	struct legacy_area legacy = {
		.cwd = (uint16_t)entry->cwd,
		.swd = (uint16_t)entry->swd,
		.twd = (uint16_t)entry->twd,
		.fop = (uint16_t)entry->fop,
		.rip = entry->rip,
		.rdp = entry->rdp,
		.mxcsr = entry->mxcsr,
		.mxcsr_mask = entry->mxcsr_mask,
	};
	const uint64_t legacy_used = LEGACY_COMPONENTS;

	if (entry->n_st_space != 32 || entry->n_xmm_space != 64)
		return error_new(EBADMSG, "FPU registers of %zu and %zu words", entry->n_st_space, entry->n_xmm_space);
	memcpy(legacy.st_space, entry->st_space, sizeof(legacy.st_space));
	memcpy(legacy.xmm_space, entry->xmm_space, sizeof(legacy.xmm_space));
	memcpy(fpu->bytes, &legacy, sizeof(legacy));
	if (entry->xsave)
		return restore_extended(layout, entry->xsave, fpu);
	memcpy((uint8_t *)fpu->bytes + XSTATE_BV_OFFSET, &legacy_used, sizeof(legacy_used));
	return NULL;
}

/* The most that a program may have: five levels of page tables, arch/x86/x86_64/mm of the kernel's documentation. */
static const uint64_t user_end = (UINT64_C(1) << 56) - 1;

struct error *arch_core_restore(const struct arch_fpu_layout *layout, const CoreEntry *core,
                                struct arch_registers *ret_registers, struct arch_fpu *ret_fpu)
{
	const ThreadInfoX86 *info = core->thread_info;

	if (core->mtype != CORE_ENTRY__MARCH__X86_64 || !info)
		return error_new(EBADMSG, "image of another processor than x86-64");
	if (info->gpregs->mode != USER_X86_REGS_MODE__NATIVE)
		return error_new(ENOTSUP, "a 32-bit program");
	if (info->gpregs->ip > user_end)
		return error_new(EBADMSG, "a thread that goes on at %#llx, in the kernel",
		                 (unsigned long long)info->gpregs->ip);
#define RESTORE(kernel, image) ret_registers->user.kernel = info->gpregs->image;
	FOR_EACH_REGISTER(RESTORE)
#undef RESTORE
	ret_fpu->size_bytes = layout->area_bytes;
	ret_fpu->bytes = xalloc(ret_fpu->size_bytes);
	struct error *error = restore_fpu(layout, info->fpregs, ret_fpu);
	if (error)
		arch_fpu_free(ret_fpu);
	return error;
}
