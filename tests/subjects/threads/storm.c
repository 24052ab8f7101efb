/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Threads that are born and end all the time, also while the program is saved and in the rounds of a migration. None is
 * lost and none runs twice: each counts itself once when it begins and once when it ends.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "subject.h"

enum { MAKERS = 4, CHILDREN = 6, STACK_BYTES = 64 * 1024 };

struct maker {
	pthread_t thread;
	uint64_t made;
	bool has_failed;
};

static atomic_uint_fast64_t begun, ended;
static atomic_bool is_over;

static void pause_ns(long ns)
{
	const struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

static void *be_short(void *context)
{
	begun++;
	pause_ns((long)(intptr_t)context);
	ended++;
	return context;
}

static void *make(void *context)
{
	struct maker *maker = context;
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	while (!is_over && !maker->has_failed) {
		pthread_t children[CHILDREN];

		for (intptr_t i = 0; i < CHILDREN; i++) {
			maker->has_failed |=
				pthread_create(&children[i], &attributes, be_short, (void *)(i * 700000)) != 0;
			maker->made++;
		}
		for (intptr_t i = 0; i < CHILDREN; i++) {
			void *result;

			maker->has_failed |= pthread_join(children[i], &result) != 0 || (intptr_t)result != i * 700000;
		}
		pause_ns(2 * 1000 * 1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct maker makers[MAKERS] = {0};
	uint64_t made = 0;

	for (unsigned i = 0; i < MAKERS; i++)
		if (pthread_create(&makers[i].thread, NULL, make, &makers[i]) != 0)
			subject_fail(&subject, "pthread_create");
	while (ended < (uint64_t)MAKERS * CHILDREN)
		pause_ns(1000 * 1000);

	subject_ready(&subject);

	/* It still storms. */
	for (uint64_t before = ended; ended < before + (uint64_t)MAKERS * CHILDREN;)
		pause_ns(1000 * 1000);
	is_over = true;
	for (unsigned i = 0; i < MAKERS; i++) {
		pthread_join(makers[i].thread, NULL);
		made += makers[i].made;
		if (makers[i].has_failed)
			subject_fail(&subject, "maker %u could not make or join a thread", i);
	}
	if (begun != made || ended != made)
		subject_fail(&subject, "%ju threads made, %ju begun, %ju ended", (uintmax_t)made, (uintmax_t)begun,
		             (uintmax_t)ended);
	return subject_pass(&subject);
}
