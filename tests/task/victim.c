/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

enum {
	SECTIONS = 40,         /* restartable sequences in a row */
	COMPUTE_ROUNDS = 4000, /* about 10 us */
	TINY_BYTES = 1024,     /* of which the thread's stack is the upper end, the rest is somebody else's */
	GO_ON_TRIES = 60000,   /* of 1 ms */
	STACK_BYTES = 64 * 1024,
};

struct self {
	struct victim *victim;
	struct victim_thread *thread;
	int epoll;
	uint8_t tiny[TINY_BYTES] __attribute__((aligned(16)));
};

__attribute__((format(printf, 2, 3))) static void harmed(struct victim *victim, const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&victim->is_harmed, true))
		return;
	va_start(args, format);
	vsnprintf(victim->reason, sizeof(victim->reason), format, args);
	va_end(args);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- Computing ---- */

struct result {
	uint64_t hash;
	double number;
};

__attribute__((noinline)) static struct result compute(void)
{
	struct result result = {.hash = 14695981039346656037U, .number = 1.0};
	double other = 3.0;

	for (uint64_t i = 0; i < COMPUTE_ROUNDS; i++) {
		result.number = result.number * 1.0000001 + other * 1e-9;
		other += 0.5;
		result.hash = (result.hash ^ i) * 1099511628211U;
	}
	return result;
}

static void step_compute(struct self *self)
{
	struct result first = compute();
	struct result second = compute();

	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): the very bits */
	if (first.hash != second.hash || memcmp(&first.number, &second.number, sizeof(double)) != 0)
		harmed(self->victim, "computed %#jx, then %#jx", (uintmax_t)first.hash, (uintmax_t)second.hash);
}

/* ---- Restartable sequences ---- */

static struct rseq *own_rseq(void)
{
	return (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/*
 * Reads the counter of this processor, takes a few us, and writes it: two threads on one processor would lose each other's
 * counts if an interrupted one were not sent to the abort handler. rseq(2); glibc's signature stands before that.
 */
static bool count_in_section(struct rseq *rseq, struct victim_counter *counters)
{
	/* clang-format off */
	__asm__ goto(
		".pushsection __rseq_cs, \"aw\"\n\t"
		".balign 32\n\t"
		"3:\n\t"
		".long 0, 0\n\t"
		".quad 1f, 2f - 1f, 4f\n\t"
		".popsection\n\t"
		"leaq 3b(%%rip), %%rax\n\t"
		"movq %%rax, 8(%[rseq])\n\t"
		"1:\n\t"
		"movl 4(%[rseq]), %%eax\n\t" /* cpu_id */
		"shlq $6, %%rax\n\t"
		"movq (%[counters], %%rax), %%rcx\n\t"
		"movl $4000, %%edx\n\t"
		"5:\n\t"
		"decl %%edx\n\t"
		"jnz 5b\n\t"
		"incq %%rcx\n\t"
		"movq %%rcx, (%[counters], %%rax)\n\t"
		"2:\n\t"
		".pushsection __rseq_failure, \"ax\"\n\t"
		".byte 0x0f, 0xb9, 0x3d\n\t"
		".long 0x53053053\n\t"
		"4:\n\t"
		"jmp %l[aborted]\n\t"
		".popsection\n\t"
		:
		: [rseq] "r"(rseq), [counters] "r"(counters)
		: "rax", "rcx", "rdx", "memory", "cc"
		: aborted);
	/* clang-format on */
	return true;
aborted:
	return false;
}

static void step_sections(struct self *self)
{
	struct rseq *rseq = own_rseq();

	for (int i = 0; i < SECTIONS; i++)
		if (count_in_section(rseq, self->victim->counters))
			self->thread->committed++;
		else
			self->thread->aborted++;
}

/* ---- Time-outs ---- */

static void check_wait(struct self *self, const char *name, bool has_timed_out, uint64_t start_ns)
{
	int reason = errno;
	uint64_t took_ns = now_ns() - start_ns;

	if (!has_timed_out)
		harmed(self->victim, "%s: errno %d", name, reason);
	else if (took_ns < self->victim->wait_ms * UINT64_C(1000000))
		harmed(self->victim, "%s of %u ms took %ju ns", name, self->victim->wait_ms, (uintmax_t)took_ns);
}

static struct timespec wait_time(const struct self *self)
{
	return (struct timespec){.tv_sec = self->victim->wait_ms / 1000,
	                         .tv_nsec = (long)(self->victim->wait_ms % 1000) * 1000000};
}

static void step_sleep(struct self *self)
{
	const struct timespec time = wait_time(self);
	uint64_t start_ns = now_ns();

	check_wait(self, "nanosleep", nanosleep(&time, NULL) == 0, start_ns);
}

static void step_poll(struct self *self)
{
	uint64_t start_ns = now_ns();

	check_wait(self, "poll", poll(NULL, 0, (int)self->victim->wait_ms) == 0, start_ns);
}

static void step_futex(struct self *self)
{
	const struct timespec time = wait_time(self);
	uint64_t start_ns = now_ns();
	uint32_t word = 7;
	long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &time, NULL, 0);

	check_wait(self, "futex", result < 0 && errno == ETIMEDOUT, start_ns);
}

/* A stop alone may end this one: signal(7). That it is seen to is a matter of a few us. */
static void step_epoll(struct self *self)
{
	uint64_t start_ns = now_ns();
	struct epoll_event event;
	int result = epoll_wait(self->epoll, &event, 1, (int)self->victim->wait_ms);

	if (result < 0 && errno == EINTR)
		self->thread->broken++;
	else
		check_wait(self, "epoll_wait", result == 0, start_ns);
}

/* ---- A small stack ---- */

/* nanosleep(2) with a stack pointer whose red zone is not even used; what is below it stays as it is. */
static void step_tiny_stack(struct self *self)
{
	const struct timespec time = wait_time(self);
	uint64_t start_ns = now_ns();
	long result;

	memset(self->tiny, 0x5a, sizeof(self->tiny));
	__asm__ volatile("movq %%rsp, %%rbx\n\t"
	                 "movq %[top], %%rsp\n\t"
	                 "syscall\n\t"
	                 "movl $20000, %%ecx\n\t"
	                 "1: decl %%ecx\n\t"
	                 "jnz 1b\n\t"
	                 "movq %%rbx, %%rsp"
	                 : "=a"(result)
	                 : "a"(SYS_nanosleep), "D"(&time), "S"(NULL), [top] "r"(self->tiny + sizeof(self->tiny))
	                 : "rbx", "rcx", "r11", "memory", "cc");
	errno = (int)-result;
	check_wait(self, "nanosleep on a small stack", result == 0, start_ns);
	for (size_t i = 0; i < sizeof(self->tiny); i++)
		if (self->tiny[i] != 0x5a)
			harmed(self->victim, "%zu bytes below the stack there is %#x", sizeof(self->tiny) - i,
			       self->tiny[i]);
}

/* ---- Threads ---- */

static void (*const steps[])(struct self *self) = {
	step_compute, step_sections, step_sleep, step_sections, step_poll,
	step_compute, step_futex,    step_epoll, step_sections, step_tiny_stack,
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

static void *go_round(void *context)
{
	struct self *self = context;
	struct victim *victim = self->victim;

	for (size_t i = (size_t)(self->thread - victim->threads); !victim->is_over; i++) {
		steps[i % STEPS](self);
		self->thread->steps++;
	}
	victim->ended_threads++;
	return NULL;
}

static void make_threads(struct self *selves, unsigned count)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	for (unsigned i = 1; i < count; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attributes, go_round, &selves[i]) != 0)
			harmed(selves[i].victim, "pthread_create: thread %u", i);
	}
}

_Noreturn static void be_victim(struct victim *victim)
{
	struct self *selves = calloc(victim->thread_count, sizeof(*selves));
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	assert(victim->thread_count > 0);
	if (!selves || epoll < 0 || __rseq_size == 0) {
		harmed(victim, "set-up: rseq of %u bytes", __rseq_size);
		_exit(1);
	}
	for (unsigned i = 0; i < victim->thread_count; i++)
		selves[i] = (struct self){.victim = victim, .thread = &victim->threads[i], .epoll = epoll};
	make_threads(selves, victim->thread_count);
	go_round(&selves[0]);
	while (victim->ended_threads < victim->thread_count)
		usleep(1000);
	_exit(0);
}

/* ---- For others ---- */

struct victim *victim_start(unsigned thread_count)
{
	struct victim *victim = mmap(NULL, sizeof(*victim), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (victim == MAP_FAILED)
		abort();
	victim->thread_count = thread_count;
	/* Many threads: they shall need a small part of the processors only. */
	victim->wait_ms = 2 + thread_count / 2;
	pid_t pid = fork();
	if (pid == 0)
		be_victim(victim);
	victim->pid = pid;
	return victim;
}

bool victim_goes_on(struct victim *victim)
{
	uint64_t before[VICTIM_THREADS_MAX];
	int tries = GO_ON_TRIES;

	for (unsigned i = 0; i < victim->thread_count; i++)
		before[i] = victim->threads[i].steps;
	for (unsigned i = 0; i < victim->thread_count; i++)
		while (victim->threads[i].steps == before[i]) {
			if (tries-- == 0)
				harmed(victim, "thread %u stands still", i);
			if (victim->is_harmed)
				return false;
			usleep(1000);
		}
	return !victim->is_harmed;
}

bool victim_end(struct victim *victim)
{
	int64_t counted = 0;
	uint64_t committed = 0;
	int status;

	victim->is_over = true;
	if (waitpid(victim->pid, &status, 0) != victim->pid || status != 0)
		harmed(victim, "it ended with status %#x", status);
	for (unsigned i = 0; i < VICTIM_CPUS_MAX; i++)
		counted += victim->counters[i].count;
	for (unsigned i = 0; i < victim->thread_count; i++)
		committed += victim->threads[i].committed;
	if ((uint64_t)counted != committed)
		harmed(victim, "%ju sequences came to their end, %jd were counted", (uintmax_t)committed,
		       (intmax_t)counted);
	return !victim->is_harmed;
}
