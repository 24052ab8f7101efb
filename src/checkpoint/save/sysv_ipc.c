/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdbool.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "checkpoint/save/sysv_ipc.h"
#include "util/error.h"
#include "util/problems.h"

/* The last argument of semctl(2), which the caller has to declare. */
union semun {
	int value;
	struct semid_ds *set;
	struct seminfo *info;
};

static void add(struct problems *problems, const char *what, int id, const char *option)
{
	problems_add(problems, error_hint(error_new(ENOTSUP, "System V %s %d, which it has used", what, id),
	                                  "others may use it, too, and it stays here. If it is of no use any more: "
	                                  "ipcrm -%s %d",
	                                  option, id));
}

static bool has_used_semaphores(pid_t pid, int id, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		if (semctl(id, (int)i, GETPID) == pid)
			return true;
	return false;
}

/* Kernels and users without such things have none to tell of. */
static void check_semaphores(pid_t pid, struct problems *problems)
{
	struct seminfo info;
	int last = semctl(0, 0, SEM_INFO, (union semun){.info = &info});

	for (int index = 0; index <= last; index++) {
		struct semid_ds set = {0};
		int id = semctl(index, 0, SEM_STAT, (union semun){.set = &set});

		if (id >= 0 && has_used_semaphores(pid, id, set.sem_nsems))
			add(problems, "semaphores (semget(2))", id, "s");
	}
}

static void check_queues(pid_t pid, struct problems *problems)
{
	struct msginfo info;
	int last = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&info);

	for (int index = 0; index <= last; index++) {
		struct msqid_ds queue = {0};
		int id = msgctl(index, MSG_STAT, &queue);

		if (id >= 0 && (queue.msg_lspid == pid || queue.msg_lrpid == pid))
			add(problems, "message queue (msgget(2))", id, "q");
	}
}

void sysv_ipc_check(pid_t pid, struct problems *problems)
{
	check_semaphores(pid, problems);
	check_queues(pid, problems);
}
