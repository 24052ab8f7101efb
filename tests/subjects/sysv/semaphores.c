/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V semaphores from the inside: a set with a key, of which some have values and others were never touched, of another
 * owner; a thread that waits for one of them, and goes on by it; and what is to be undone when the process ends (SEM_UNDO),
 * which unshare(2) does at once.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>

#include "subject.h"

enum {
	COUNT = 5,
	KEY = 0x676f6478,
	OWNER = 4321,
	GROUP = 1234,
	WAITED = 3,
	UNUSED = 4,
	UNDONE = 3,
	ALSO_UNDONE = 32100
};

union semun {
	int value;
	struct semid_ds *set;
	unsigned short *values;
};

static const unsigned short values[COUNT] = {7, 0, 32767, 2, 0};
static const unsigned short first_values[COUNT] = {7 + UNDONE, 0, 32767 - ALSO_UNDONE, 2, 0};

struct waiter {
	int id;
	int outcome; /* errno, 0: it has got it; atomic */
	bool is_done;
};

static void *wait_for_one(void *data)
{
	struct waiter *waiter = data;
	struct sembuf take = {.sem_num = WAITED, .sem_op = -5};
	int outcome = semop(waiter->id, &take, 1) < 0 ? errno : 0;

	__atomic_store_n(&waiter->outcome, outcome, __ATOMIC_SEQ_CST);
	__atomic_store_n(&waiter->is_done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static struct semid_ds look(const struct subject *subject, int id)
{
	struct semid_ds set;

	if (semctl(id, 0, IPC_STAT, (union semun){.set = &set}) < 0)
		subject_fail(subject, "semctl(%d): errno %d", id, errno);
	return set;
}

static void check_values(const struct subject *subject, int id)
{
	for (int i = 0; i < COUNT; i++) {
		int value = semctl(id, i, GETVAL);
		int user = semctl(id, i, GETPID);

		if (value != values[i] || user != (i == UNUSED ? 0 : getpid()))
			subject_fail(subject, "semaphore %d: %d, last used by %d, not %d", i, value, user, values[i]);
	}
	if (semctl(id, WAITED, GETNCNT) != 1)
		subject_fail(subject, "%d wait, not 1", semctl(id, WAITED, GETNCNT));
}

/* With one semaphore of value 5, which is set or comes about by an operation: only that sets sem_otime. */
static int make_one(const struct subject *subject, bool is_used)
{
	struct sembuf up = {.sem_op = 5};
	int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);

	if (id < 0 || (is_used ? semop(id, &up, 1) : semctl(id, 0, SETVAL, (union semun){.value = 5})) < 0)
		subject_fail(subject, "semget: errno %d", errno);
	return id;
}

static void check_one(const struct subject *subject, int id, bool is_used)
{
	struct semid_ds set = look(subject, id);

	if (semctl(id, 0, GETVAL) != 5 || semctl(id, 0, GETPID) != getpid() || (set.sem_otime != 0) != is_used)
		subject_fail(subject, "set %d: %d, last used at %ld by %d", id, semctl(id, 0, GETVAL),
		             (long)set.sem_otime, semctl(id, 0, GETPID));
	semctl(id, 0, IPC_RMID);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int id = semget(KEY, COUNT, IPC_CREAT | IPC_EXCL | 0640);
	int used_once = make_one(&subject, true);
	int set_once = make_one(&subject, false);
	struct sembuf more = {.sem_num = WAITED, .sem_op = 4};
	struct waiter waiter = {.id = id};
	pthread_t thread;

	for (int i = 0; i < COUNT; i++)
		if (i != UNUSED && semctl(id, i, SETVAL, (union semun){.value = first_values[i]}) < 0)
			subject_fail(&subject, "semctl: errno %d", errno);
	/* Only an operation sets sem_otime. */
	struct sembuf used[] = {{.sem_num = 0, .sem_op = 1}, {.sem_num = 0, .sem_op = -1}};
	if (semop(id, used, 2) < 0)
		subject_fail(&subject, "semop: errno %d", errno);
	struct sembuf down = {.sem_num = 0, .sem_op = -UNDONE, .sem_flg = SEM_UNDO};
	struct sembuf up = {.sem_num = 2, .sem_op = ALSO_UNDONE, .sem_flg = SEM_UNDO};
	if (semop(id, &down, 1) < 0 || semop(id, &up, 1) < 0)
		subject_fail(&subject, "semop with SEM_UNDO: errno %d", errno);
	struct semid_ds before = look(&subject, id);
	before.sem_perm.uid = OWNER;
	before.sem_perm.gid = GROUP;
	before.sem_perm.mode = 0604;
	if (semctl(id, 0, IPC_SET, (union semun){.set = &before}) < 0 ||
	    pthread_create(&thread, NULL, wait_for_one, &waiter) != 0)
		subject_fail(&subject, "set-up: errno %d", errno);
	while (semctl(id, WAITED, GETNCNT) == 0)
		usleep(1000);

	subject_ready(&subject);

	/* It may not have come back to its call yet. */
	while (semctl(id, WAITED, GETNCNT) == 0 && !__atomic_load_n(&waiter.is_done, __ATOMIC_SEQ_CST))
		usleep(1000);
	if (semget(KEY, 0, 0) != id)
		subject_fail(&subject, "its key doesn't lead to it: errno %d", errno);
	check_values(&subject, id);
	check_one(&subject, used_once, true);
	check_one(&subject, set_once, false);
	struct semid_ds now = look(&subject, id);
	if (now.sem_perm.uid != OWNER || now.sem_perm.gid != GROUP || now.sem_perm.mode != 0604 ||
	    now.sem_perm.cuid != before.sem_perm.cuid || now.sem_otime == 0 || now.sem_nsems != COUNT)
		subject_fail(&subject, "owner %u:%u, creator %u, mode %o, last used %ld", now.sem_perm.uid,
		             now.sem_perm.gid, now.sem_perm.cuid, now.sem_perm.mode, (long)now.sem_otime);
	/* The last thread's end would undo it, too. */
	if (semop(id, &more, 1) < 0 || pthread_join(thread, NULL) != 0 || waiter.outcome != 0)
		subject_fail(&subject, "who waited didn't get it: errno %d", waiter.outcome);
	if (semctl(id, WAITED, GETVAL) != 1)
		subject_fail(&subject, "its value is %d in the end", semctl(id, WAITED, GETVAL));
	if (unshare(CLONE_SYSVSEM) < 0)
		subject_fail(&subject, "unshare: errno %d", errno);
	if (semctl(id, 0, GETVAL) != values[0] + UNDONE || semctl(id, 2, GETVAL) != values[2] - ALSO_UNDONE)
		subject_fail(&subject, "%d and %d after undoing", semctl(id, 0, GETVAL), semctl(id, 2, GETVAL));
	if (semctl(id, 0, IPC_RMID) < 0)
		subject_fail(&subject, "in the end: errno %d", errno);
	return subject_pass(&subject);
}
