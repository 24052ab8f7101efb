/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * NUMA policies of two threads, each another one, and of a third that has none. With one node they come to the same, but
 * the kernel still tells which was set.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "subject.h"

enum { MAXNODE = 1025, WORDS = 16 };

struct policy {
	int mode;
	unsigned long nodes[WORDS];
	const struct subject *subject;
};

static sem_t is_ready, may_check;

static void check(const struct policy *expected)
{
	struct policy seen = {0};

	if (syscall(SYS_get_mempolicy, &seen.mode, seen.nodes, MAXNODE, NULL, 0) < 0)
		subject_fail(expected->subject, "get_mempolicy: errno %d", errno);
	if (seen.mode != expected->mode || seen.nodes[0] != expected->nodes[0])
		subject_fail(expected->subject, "policy %#x of nodes %#lx, not %#x of %#lx", seen.mode, seen.nodes[0],
		             expected->mode, expected->nodes[0]);
}

static void set(const struct policy *policy)
{
	if (syscall(SYS_set_mempolicy, policy->mode, policy->nodes, MAXNODE) < 0)
		subject_skip(policy->subject, "set_mempolicy: errno %d (a kernel without NUMA)", errno);
}

static void *run(void *data)
{
	set(data);
	sem_post(&is_ready);
	sem_wait(&may_check);
	check(data);
	return NULL;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct policy bound = {MPOL_BIND | MPOL_F_STATIC_NODES, {1}, &subject};
	struct policy preferred = {MPOL_PREFERRED, {1}, &subject};
	struct policy none = {MPOL_DEFAULT, {0}, &subject};
	pthread_t threads[2];

	sem_init(&is_ready, 0, 0);
	sem_init(&may_check, 0, 0);
	if (pthread_create(&threads[0], NULL, run, &preferred) != 0 ||
	    pthread_create(&threads[1], NULL, run, &none) != 0)
		subject_fail(&subject, "threads");
	sem_wait(&is_ready);
	sem_wait(&is_ready);
	set(&bound);

	subject_ready(&subject);

	check(&bound);
	sem_post(&may_check);
	sem_post(&may_check);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	return subject_pass(&subject);
}
