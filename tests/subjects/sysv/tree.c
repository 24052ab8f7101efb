/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Objects of System V that two processes share: a segment that both have attached, semaphores whose last users are one and
 * the other, with something to be undone by each, and for one of which the child waits; a queue that one has sent to and the
 * other received from.
 */
#include <errno.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "subject.h"

enum { OF_CHILD, OF_PARENT, WAITED, COUNT };
enum { VALUE = 300, TAKEN = 123, GIVEN = 45, TYPE = 0x123456789, MARK = 0x5a5a1234 };

union semun {
	int value;
	struct msqid_ds *queue;
};

struct shared {
	int segment, set, queue;
	volatile int *board;
};

static void operate(const struct subject *subject, int set, int semaphore, int operation, int flags)
{
	struct sembuf sembuf = {(unsigned short)semaphore, (short)operation, (short)flags};

	if (semop(set, &sembuf, 1) < 0)
		subject_fail(subject, "semop: errno %d", errno);
}

static void be_child(const struct subject *subject, const struct shared *shared)
{
	struct {
		long type;
		int text;
	} message;

	if (msgrcv(shared->queue, &message, sizeof(message.text), TYPE, 0) != sizeof(message.text))
		subject_fail(subject, "msgrcv: errno %d", errno);
	operate(subject, shared->set, OF_CHILD, -TAKEN, SEM_UNDO);
	operate(subject, shared->set, WAITED, -1, 0);
	_exit(shared->board[0] == MARK ? 7 : 1);
}

static void send(const struct subject *subject, int queue, int text)
{
	struct {
		long type;
		int text;
	} message = {TYPE, text};

	if (msgsnd(queue, &message, sizeof(message.text), 0) < 0)
		subject_fail(subject, "msgsnd: errno %d", errno);
}

static void check_users(const struct subject *subject, const struct shared *shared, pid_t child)
{
	struct msqid_ds queue;
	struct shmid_ds segment;

	if (shmctl(shared->segment, IPC_STAT, &segment) < 0 || segment.shm_nattch != 2 || segment.shm_cpid != getpid())
		subject_fail(subject, "segment: attached %lu times, made by %d", segment.shm_nattch, segment.shm_cpid);
	if (semctl(shared->set, OF_CHILD, GETPID) != child || semctl(shared->set, OF_PARENT, GETPID) != getpid() ||
	    semctl(shared->set, OF_CHILD, GETVAL) != VALUE - TAKEN ||
	    semctl(shared->set, OF_PARENT, GETVAL) != VALUE + GIVEN)
		subject_fail(subject, "semaphores: %d of %d, %d of %d", semctl(shared->set, OF_CHILD, GETVAL),
		             semctl(shared->set, OF_CHILD, GETPID), semctl(shared->set, OF_PARENT, GETVAL),
		             semctl(shared->set, OF_PARENT, GETPID));
	if (msgctl(shared->queue, IPC_STAT, &queue) < 0 || queue.msg_lspid != getpid() || queue.msg_lrpid != child ||
	    queue.msg_qnum != 1)
		subject_fail(subject, "queue: %lu messages, last from %d to %d", queue.msg_qnum, queue.msg_lspid,
		             queue.msg_lrpid);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct shared shared = {
		.segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600),
		.set = semget(IPC_PRIVATE, COUNT, IPC_CREAT | 0600),
		.queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600),
	};
	int status;

	shared.board = shmat(shared.segment, NULL, 0);
	for (int i = OF_CHILD; i <= OF_PARENT; i++)
		semctl(shared.set, i, SETVAL, (union semun){.value = VALUE});
	send(&subject, shared.queue, 1);
	send(&subject, shared.queue, 2);
	pid_t child = fork();
	if (child == 0)
		be_child(&subject, &shared);
	operate(&subject, shared.set, OF_PARENT, GIVEN, SEM_UNDO);
	while (semctl(shared.set, WAITED, GETNCNT) == 0)
		usleep(1000);
	check_users(&subject, &shared, child);

	subject_ready(&subject);

	check_users(&subject, &shared, child);
	shared.board[0] = MARK;
	operate(&subject, shared.set, WAITED, 1, 0);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		subject_fail(&subject, "the child sees something else: status %#x", status);
	if (semctl(shared.set, OF_CHILD, GETVAL) != VALUE || semctl(shared.set, OF_PARENT, GETVAL) != VALUE + GIVEN)
		subject_fail(&subject, "%d and %d behind the child's end", semctl(shared.set, OF_CHILD, GETVAL),
		             semctl(shared.set, OF_PARENT, GETVAL));
	if (unshare(CLONE_SYSVSEM) < 0 || semctl(shared.set, OF_PARENT, GETVAL) != VALUE)
		subject_fail(&subject, "%d after undoing", semctl(shared.set, OF_PARENT, GETVAL));
	if (shmctl(shared.segment, IPC_RMID, NULL) < 0 || semctl(shared.set, 0, IPC_RMID) < 0 ||
	    msgctl(shared.queue, IPC_RMID, NULL) < 0)
		subject_fail(&subject, "in the end: errno %d", errno);
	return subject_pass(&subject);
}
