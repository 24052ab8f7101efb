/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * rseq(2): a thread that is in a restartable sequence when it is carried has been interrupted, and so goes on at the abort
 * handler. A thread that lost its abort would be in the sequence without the kernel knowing, and never be aborted again.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>

#include "subject.h"

enum { PATIENCE_S = 20 };

struct sequence {
	struct rseq *area;
	volatile uint64_t aborts;
	volatile uint32_t is_done;
};

/* Stays in the sequence, 1 to 2, until it is done. 4, behind libc's signature, is where it goes on when it was aborted. */
static void stay_in_sequence(struct sequence *sequence)
{
	__asm__ volatile(".pushsection rseq_sections, \"aw\"\n\t"
	                 ".balign 32\n"
	                 "3: .long 0, 0\n\t"
	                 ".quad 1f, 2f - 1f, 4f\n\t"
	                 ".popsection\n"
	                 "5: lea 3b(%%rip), %%rax\n\t"
	                 "mov %%rax, %[section]\n"
	                 "1: cmpl $0, %[is_done]\n\t"
	                 "je 1b\n"
	                 "2: jmp 6f\n\t"
	                 ".long %c[signature]\n"
	                 "4: incq %[aborts]\n\t"
	                 "jmp 5b\n"
	                 "6: movq $0, %[section]\n\t"
	                 : [section] "+m"(sequence->area->rseq_cs), [aborts] "+m"(sequence->aborts)
	                 : [is_done] "m"(sequence->is_done), [signature] "i"(RSEQ_SIG)
	                 : "rax", "cc", "memory");
}

static void *be_in_sequence(void *arg)
{
	struct sequence *sequence = arg;

	sequence->area = (struct rseq *)((uintptr_t)__builtin_thread_pointer() + (uintptr_t)__rseq_offset);
	stay_in_sequence(sequence);
	return NULL;
}

/* The kernel aborts a sequence when the thread is moved to another processor, or loses its own. */
static void expect_abort(const struct subject *subject, const struct sequence *sequence, pthread_t thread)
{
	const uint64_t before = sequence->aborts;
	const long processors = sysconf(_SC_NPROCESSORS_ONLN);
	const time_t end = time(NULL) + PATIENCE_S;

	for (long i = 0; sequence->aborts == before; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((int)(i % processors), &set);
		pthread_setaffinity_np(thread, sizeof(set), &set);
		sched_yield();
		if (time(NULL) > end)
			subject_fail(subject, "the sequence isn't aborted any more, after %ju times",
			             (uintmax_t)before);
	}
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct sequence sequence = {0};
	pthread_t thread;

	if (__rseq_size == 0 || pthread_create(&thread, NULL, be_in_sequence, &sequence) != 0)
		subject_fail(&subject, "no rseq, or errno %d", errno);
	while (!sequence.area)
		sched_yield();
	expect_abort(&subject, &sequence, thread);

	subject_ready(&subject);

	expect_abort(&subject, &sequence, thread);
	sequence.is_done = 1;
	pthread_join(thread, NULL);
	return subject_pass(&subject);
}
