/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The registers of threads: general ones, a flag, FS and GS base, x87 stack and control word, MXCSR, XMM to ZMM and mask
 * registers, PKRU: the most that the processor has. Each thread holds values of its own in all of them while it is
 * carried: three of them in a system call, which preserves them, one outside of any.
 */
#include <cpuid.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "crew.h"

enum {
	VECTORS = 32,
	MASKS = 8,
	GENERAL = 8,
	MORE = 5,
	STACK = 8,
	SPINNING = 3,
	DIRECTION = 1 << 10,
	SET_GS = 0x1001,
	GET_GS = 0x1004
};
enum width { SSE, AVX, AVX512 };

struct state {
	uint64_t vectors[VECTORS][8];
	uint64_t masks[MASKS];
	uint64_t general[GENERAL]; /* rbx, rbp, r8, r9, r12 to r15 */
	uint64_t more[MORE];       /* rcx, rdx, rsi, r10, r11: of the thread that makes no system call */
	double stack[STACK];
	uint32_t mxcsr;
	uint16_t control;
	uint16_t flags; /* the low half of RFLAGS */
};
_Static_assert(offsetof(struct state, masks) == 2048 && offsetof(struct state, general) == 2112 &&
                       offsetof(struct state, more) == 2176 && offsetof(struct state, stack) == 2216 &&
                       offsetof(struct state, mxcsr) == 2280 && offsetof(struct state, control) == 2284 &&
                       offsetof(struct state, flags) == 2286,
               "as below");

/* Loads what is in in, waits until *word isn't 0, stores what is there then. */
void hold(const struct state *in, struct state *out, const uint32_t *word, int is_spinning, enum width width);
__asm__(".macro each do\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "\\do \\n\n"
        ".endr\n"
        ".endm\n"
        ".macro load_sse n\n movdqu \\n*64(%rdi), %xmm\\n\n.endm\n"
        ".macro load_avx n\n vmovdqu \\n*64(%rdi), %ymm\\n\n.endm\n"
        ".macro store_sse n\n movdqu %xmm\\n, \\n*64(%rax)\n.endm\n"
        ".macro store_avx n\n vmovdqu %ymm\\n, \\n*64(%rax)\n.endm\n"
        ".text\n"
        ".type hold, @function\n"
        "hold:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "push %rsi; push %r8; push %rcx\n"
        "mov %rdx, %rax\n"
        "cmp $1, %r8d; jb 1f; je 2f\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "vmovdqu64 \\n*64(%rdi), %zmm\\n\n"
        ".endr\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n"
        "kmovq 2048+\\n*8(%rdi), %k\\n\n"
        ".endr\n"
        "jmp 3f\n"
        "1: each load_sse; jmp 3f\n"
        "2: each load_avx\n"
        "3: fninit\n"
        ".irp n, 7, 6, 5, 4, 3, 2, 1, 0\n"
        "fldl 2216+\\n*8(%rdi)\n"
        ".endr\n"
        "ldmxcsr 2280(%rdi); fldcw 2284(%rdi)\n"
        "mov 2112(%rdi), %rbx; mov 2120(%rdi), %rbp; mov 2128(%rdi), %r8; mov 2136(%rdi), %r9\n"
        "mov 2144(%rdi), %r12; mov 2152(%rdi), %r13; mov 2160(%rdi), %r14; mov 2168(%rdi), %r15\n"
        "cmpl $0, (%rsp); jne 5f\n"
        /* futex(word, FUTEX_WAIT, 0, NULL) */
        "mov %rax, %rdi; xor %esi, %esi; xor %edx, %edx; xor %r10d, %r10d\n"
        "4: mov $202, %eax; syscall; cmpl $0, (%rdi); je 4b; jmp 7f\n"
        "5: mov 2176(%rdi), %rcx; mov 2184(%rdi), %rdx; mov 2192(%rdi), %rsi\n"
        "mov 2200(%rdi), %r10; mov 2208(%rdi), %r11; std\n"
        "6: pause; cmpl $0, (%rax); je 6b\n"
        "7: mov 16(%rsp), %rax\n"
        "mov %rbx, 2112(%rax); mov %rbp, 2120(%rax); mov %r8, 2128(%rax); mov %r9, 2136(%rax)\n"
        "mov %r12, 2144(%rax); mov %r13, 2152(%rax); mov %r14, 2160(%rax); mov %r15, 2168(%rax)\n"
        "mov %rcx, 2176(%rax); mov %rdx, 2184(%rax); mov %rsi, 2192(%rax)\n"
        "mov %r10, 2200(%rax); mov %r11, 2208(%rax)\n"
        "pushfq; pop %rcx; mov %cx, 2286(%rax); cld\n"
        "stmxcsr 2280(%rax); fnstcw 2284(%rax)\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n"
        "fstpl 2216+\\n*8(%rax)\n"
        ".endr\n"
        "movl $0x1f80, -8(%rsp); ldmxcsr -8(%rsp); fninit\n"
        "cmpl $1, 8(%rsp); jb 1f; je 2f\n"
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "vmovdqu64 %zmm\\n, \\n*64(%rax)\n"
        ".endr\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n"
        "kmovq %k\\n, 2048+\\n*8(%rax)\n"
        ".endr\n"
        "vzeroupper; jmp 3f\n"
        "1: each store_sse; jmp 3f\n"
        "2: each store_avx; vzeroupper\n"
        "3: add $24, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        ".size hold, .-hold\n");

/* A thread that holds its registers, and what they are. */
struct holder {
	pthread_t thread;
	struct state before, after;
	uint64_t gs_area[2];
	uint32_t word; /* futex: 1 says that it is to look */
	uint32_t pkru;
	int number;
	int is_holding;
	const struct subject *subject;
};

static struct holder holders[CREW];
static __thread uint64_t thread_local_value = 0x1111;

static enum width width_here(void)
{
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512f"))
		return AVX512;
	return __builtin_cpu_supports("avx2") ? AVX : SSE;
}

/* CPUID leaf 7, OSPKE: the kernel lets programs use protection keys. */
static int has_pkru(void)
{
	unsigned a;
	unsigned b;
	unsigned c = 0;
	unsigned d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & (1U << 4));
}

static uint32_t read_pkru(void)
{
	uint32_t low;

	__asm__ volatile("rdpkru" : "=a"(low) : "c"(0) : "edx");
	return low;
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}

static void fill(struct state *state, int number)
{
	uint64_t *words = (uint64_t *)state;
	size_t count = offsetof(struct state, stack) / sizeof(*words);

	for (size_t i = 0; i < count; i++)
		words[i] = UINT64_C(0x9e3779b97f4a7c15) * (i + 1000 * (uint64_t)(number + 1));
	for (int i = 0; i < STACK; i++)
		state->stack[i] = 1.0 / (number * 10 + i + 3);
	/* All exceptions masked; rounding up, down, to zero; flush to zero in one of them. */
	state->mxcsr = 0x1f80U | (uint32_t)number << 13 | (number == 2 ? 0x8000U : 0);
	state->control = (uint16_t)(0x027f | number << 10);
}

static void *be_holder(void *arg)
{
	struct holder *holder = arg;

	thread_local_value = 0x2222 + (uint64_t)holder->number;
	syscall(SYS_arch_prctl, SET_GS, holder->gs_area);
	if (has_pkru())
		write_pkru(holder->pkru);
	__atomic_store_n(&holder->is_holding, 1, __ATOMIC_RELEASE);
	hold(&holder->before, &holder->after, &holder->word, holder->number == SPINNING, width_here());
	uint64_t gs_base = 0;
	uint64_t by_gs;
	syscall(SYS_arch_prctl, GET_GS, &gs_base);
	__asm__ volatile("mov %%gs:8, %0" : "=r"(by_gs));
	if (gs_base != (uint64_t)(uintptr_t)holder->gs_area || by_gs != holder->gs_area[1])
		subject_fail(holder->subject, "thread %d: GS base %#jx", holder->number, (uintmax_t)gs_base);
	if (thread_local_value != 0x2222 + (uint64_t)holder->number)
		subject_fail(holder->subject, "thread %d: thread-local value %#jx", holder->number,
		             (uintmax_t)thread_local_value);
	if (has_pkru() && read_pkru() != holder->pkru)
		subject_fail(holder->subject, "thread %d: PKRU %#x", holder->number, read_pkru());
	return NULL;
}

static void compare(const struct subject *subject, const struct holder *holder)
{
	const enum width width = width_here();
	const struct state *before = &holder->before;
	const struct state *after = &holder->after;

	for (int i = 0; i < (width == AVX512 ? 32 : 16); i++)
		if (memcmp(before->vectors[i], after->vectors[i], (size_t)16 << width) != 0)
			subject_fail(subject, "thread %d: vector register %d", holder->number, i);
	if (width == AVX512 && memcmp(before->masks, after->masks, sizeof(before->masks)) != 0)
		subject_fail(subject, "thread %d: mask registers", holder->number);
	if (memcmp(before->general, after->general, sizeof(before->general)) != 0)
		subject_fail(subject, "thread %d: general registers", holder->number);
	if (holder->number == SPINNING && memcmp(before->more, after->more, sizeof(before->more)) != 0)
		subject_fail(subject, "thread %d: registers that a system call changes", holder->number);
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): the very bits */
	if (memcmp(before->stack, after->stack, sizeof(before->stack)) != 0)
		subject_fail(subject, "thread %d: x87 stack", holder->number);
	if ((after->flags & DIRECTION) != (holder->number == SPINNING ? DIRECTION : 0))
		subject_fail(subject, "thread %d: direction flag", holder->number);
	/* Flags of exceptions, the lowest six bits, may have been raised by neither. */
	if (before->mxcsr != after->mxcsr || before->control != after->control)
		subject_fail(subject, "thread %d: MXCSR %#x, x87 control word %#x", holder->number, after->mxcsr,
		             after->control);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);

	for (int i = 0; i < CREW; i++) {
		struct holder *holder = &holders[i];

		holder->number = i;
		holder->subject = &subject;
		holder->gs_area[1] = 0x676f64776974ULL + (uint64_t)i;
		holder->pkru = 0xaaaaaaa0U >> (2 * i) & ~0xfU;
		fill(&holder->before, i);
		pthread_create(&holder->thread, NULL, be_holder, holder);
		while (!__atomic_load_n(&holder->is_holding, __ATOMIC_ACQUIRE))
			sched_yield();
	}

	subject_ready(&subject);

	for (int i = 0; i < CREW; i++) {
		struct holder *holder = &holders[i];

		__atomic_store_n(&holder->word, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &holder->word, 1, INT32_MAX, NULL, NULL, 0);
		pthread_join(holder->thread, NULL);
		compare(&subject, holder);
	}
	return subject_pass(&subject);
}
