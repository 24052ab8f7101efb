/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Two thousand threads, each with a number, a name, thread-local memory and registers of its own, asleep in a system call
 * that was made with all registers full. Some of their numbers are lower than the process's own, as when the kernel has
 * come to the highest one and begins anew.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "subject.h"

enum { THREADS = 2000, STACK_BYTES = 64 * 1024, LOW_TID = 300, REGISTERS = 5 };

struct thread {
	pthread_t thread;
	uint64_t number;
	pid_t tid;
	const char *trouble; /* NULL: none */
	uint64_t found;
};

static atomic_uint asleep; /* about to sleep */
static uint32_t go;
static _Thread_local uint64_t local[4];

static uint64_t pattern(uint64_t number, unsigned index)
{
	return (number + 1) * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0x0101010101010101);
}

/* futex(2) on go, with the registers that a call preserves full of patterns; they are put into values afterwards. */
/* NOLINTNEXTLINE(readability-non-const-parameter): written by the instructions */
static void sleep_with_registers(uint64_t values[REGISTERS])
{
	__asm__ volatile("movq 0(%[values]), %%rbx\n\t"
	                 "movq 8(%[values]), %%r12\n\t"
	                 "movq 16(%[values]), %%r13\n\t"
	                 "movq 24(%[values]), %%r14\n\t"
	                 "movq 32(%[values]), %%xmm5\n\t"
	                 "movq %[values], %%r15\n\t"
	                 "movl $202, %%eax\n\t"
	                 "movq %[word], %%rdi\n\t"
	                 "movl $0, %%esi\n\t" /* FUTEX_WAIT */
	                 "movl $0, %%edx\n\t"
	                 "movl $0, %%r10d\n\t"
	                 "syscall\n\t"
	                 "movq %%rbx, 0(%%r15)\n\t"
	                 "movq %%r12, 8(%%r15)\n\t"
	                 "movq %%r13, 16(%%r15)\n\t"
	                 "movq %%r14, 24(%%r15)\n\t"
	                 "movq %%xmm5, 32(%%r15)"
	                 :
	                 : [values] "r"(values), [word] "r"(&go)
	                 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r10", "r11", "r12", "r13", "r14", "r15", "xmm5",
	                   "memory", "cc");
}

static void check(struct thread *thread, const char *what, uint64_t found, uint64_t expected)
{
	if (found == expected || thread->trouble)
		return;
	thread->trouble = what;
	thread->found = found;
}

static void *run(void *context)
{
	struct thread *thread = context;
	char name[16];
	char expected_name[16];
	uint64_t values[REGISTERS];

	thread->tid = (pid_t)syscall(SYS_gettid);
	snprintf(expected_name, sizeof(expected_name), "t %ju", (uintmax_t)thread->number);
	prctl(PR_SET_NAME, expected_name);
	for (unsigned i = 0; i < 4; i++)
		local[i] = pattern(thread->number, 100 + i);
	for (unsigned i = 0; i < REGISTERS; i++)
		values[i] = pattern(thread->number, i);
	asleep++;
	sleep_with_registers(values);
	for (unsigned i = 0; i < REGISTERS; i++)
		check(thread, "register", values[i], pattern(thread->number, i));
	for (unsigned i = 0; i < 4; i++)
		check(thread, "local memory", local[i], pattern(thread->number, 100 + i));
	check(thread, "TID", (uint64_t)syscall(SYS_gettid), (uint64_t)thread->tid);
	prctl(PR_GET_NAME, name);
	check(thread, "name", (uint64_t)strcmp(name, expected_name), 0);
	return NULL;
}

/* The kernel goes on from that number, in this PID namespace. */
static void set_last_tid(const struct subject *subject, pid_t tid)
{
	FILE *file = fopen("/proc/sys/kernel/ns_last_pid", "we");

	if (!file || fprintf(file, "%d", tid) < 0 || fclose(file) != 0)
		subject_fail(subject, "ns_last_pid");
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct thread *threads = calloc(THREADS, sizeof(*threads));
	pthread_attr_t attributes;
	unsigned low = 0;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i].number = i;
		if (i == THREADS / 2)
			set_last_tid(&subject, LOW_TID);
		if (pthread_create(&threads[i].thread, &attributes, run, &threads[i]) != 0)
			subject_fail(&subject, "pthread_create: thread %u", i);
	}
	while (asleep < THREADS)
		usleep(1000);
	for (unsigned i = 0; i < THREADS; i++)
		low += threads[i].tid < getpid();
	if (low == 0)
		subject_fail(&subject, "no TID is lower than the PID");

	subject_ready(&subject);

	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &go, FUTEX_WAKE, THREADS, NULL, NULL, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i].thread, NULL);
		if (threads[i].trouble)
			subject_fail(&subject, "thread %u, TID %d: %s: %#jx", i, threads[i].tid, threads[i].trouble,
			             (uintmax_t)threads[i].found);
	}
	return subject_pass(&subject);
}
