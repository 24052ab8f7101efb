/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Where in the program's memory the kernel writes for a thread: the word that pthread_join(3) waits at, the list of robust
 * mutexes, the area of rseq(2), which libc has registered. One thread waits in pthread_join(3) while it is carried.
 */
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include "crew.h"

static pthread_mutex_t robust[CREW];
static pthread_t joined;
static sem_t may_end;

static void *end_with_value(void *arg)
{
	while (sem_wait(&may_end) != 0)
		continue;
	return arg;
}

static void *join_it(void *arg)
{
	void *value = NULL;

	(void)arg;
	pthread_join(joined, &value);
	return value;
}

static void *hold_and_end(void *arg)
{
	pthread_mutex_lock(arg);
	while (sem_wait(&may_end) != 0)
		continue;
	return NULL; /* with the mutex */
}

static const struct rseq *area(void)
{
	return (const struct rseq *)((uintptr_t)__builtin_thread_pointer() + (uintptr_t)__rseq_offset);
}

/* The kernel writes the processor's number there whenever the thread has been moved. */
static void check_rseq(const struct subject *subject, int number)
{
	unsigned cpu = 0;

	if (__rseq_size == 0)
		return;
	for (long other = 0; other < sysconf(_SC_NPROCESSORS_ONLN); other++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(other, &set);
		sched_setaffinity(0, sizeof(set), &set);
		syscall(SYS_getcpu, &cpu, NULL, NULL);
		if (area()->cpu_id != cpu || area()->cpu_id_start != cpu)
			subject_fail(subject, "thread %d: rseq says processor %u, it is %u", number, area()->cpu_id,
			             cpu);
	}
}

static pthread_t joiner;
static pthread_t holders[CREW];

static void set_up(const struct subject *subject, int number)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust[number], &attributes);
	if (pthread_create(&holders[number], NULL, hold_and_end, &robust[number]) != 0)
		subject_fail(subject, "thread: errno %d", errno);
	while (pthread_mutex_trylock(&robust[number]) == 0) {
		pthread_mutex_unlock(&robust[number]);
		sched_yield();
	}
	if (number != 0)
		return;
	pthread_create(&joined, NULL, end_with_value, (void *)0x1badcafe);
	pthread_create(&joiner, NULL, join_it, NULL);
}

static void check(const struct subject *subject, int number)
{
	check_rseq(subject, number);
	if (number != 0)
		return;
	for (int i = 0; i < CREW + 1; i++)
		sem_post(&may_end);
	void *value = NULL;
	pthread_join(joiner, &value);
	if (value != (void *)0x1badcafe)
		subject_fail(subject, "the joiner got %p", value);
	for (int i = 0; i < CREW; i++) {
		/* Waits for the owner's end, which only its robust list tells. */
		int result = pthread_mutex_lock(&robust[i]);

		if (result != EOWNERDEAD)
			subject_fail(subject, "robust mutex %d: %d", i, result);
		pthread_join(holders[i], NULL);
	}
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	sem_init(&may_end, 0, 0);
	return crew_main(argc, argv, &job);
}
