/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V message queues from the inside: one with messages of many types and sizes, in their order, from which one has been
 * taken; one that is empty by now; one that nobody has taken anything from, with a limit of its own.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "subject.h"

enum { KEY = 0x676f6479, OWNER = 4321, GROUP = 1234, LIMIT = 9999, COUNT = 7 };

struct message {
	long type;
	char text[8192];
};

static const struct {
	long type;
	size_t size;
} messages[COUNT] = {{3, 5}, {LONG_MAX, 0}, {1, 8000}, {3, 7}, {LONG_MAX - 1, 1}, {1L << 40, 1025}, {2, 16}};

static void fill(struct message *message, int i)
{
	message->type = messages[i].type;
	memset(message->text, 'a' + i, messages[i].size);
}

static void send(const struct subject *subject, int id, int i)
{
	static struct message message;

	fill(&message, i);
	if (msgsnd(id, &message, messages[i].size, IPC_NOWAIT) < 0)
		subject_fail(subject, "msgsnd: errno %d", errno);
}

static void check_next(const struct subject *subject, int id, int i)
{
	static struct message message, expected;
	ssize_t size = msgrcv(id, &message, sizeof(message.text), 0, IPC_NOWAIT);

	fill(&expected, i);
	if (size != (ssize_t)messages[i].size || message.type != expected.type ||
	    memcmp(message.text, expected.text, messages[i].size) != 0)
		subject_fail(subject, "message %d: %zd bytes of type %ld: errno %d", i, size, message.type, errno);
}

static struct msqid_ds look(const struct subject *subject, int id)
{
	struct msqid_ds queue;

	if (msgctl(id, IPC_STAT, &queue) < 0)
		subject_fail(subject, "msgctl(%d): errno %d", id, errno);
	return queue;
}

static void check_same(const struct subject *subject, int id, const struct msqid_ds *before)
{
	struct msqid_ds now = look(subject, id);

	if (now.msg_perm.__key != before->msg_perm.__key || now.msg_perm.uid != before->msg_perm.uid ||
	    now.msg_perm.gid != before->msg_perm.gid || now.msg_perm.mode != before->msg_perm.mode ||
	    now.msg_perm.cuid != before->msg_perm.cuid)
		subject_fail(subject, "queue %d: key %#x, owner %u:%u, creator %u, mode %o", id, now.msg_perm.__key,
		             now.msg_perm.uid, now.msg_perm.gid, now.msg_perm.cuid, now.msg_perm.mode);
	if (now.msg_qnum != before->msg_qnum || now.__msg_cbytes != before->__msg_cbytes ||
	    now.msg_qbytes != before->msg_qbytes || now.msg_lspid != before->msg_lspid ||
	    now.msg_lrpid != before->msg_lrpid)
		subject_fail(subject, "queue %d: %lu messages, %lu of %lu bytes, last sent by %d, received by %d", id,
		             now.msg_qnum, now.__msg_cbytes, now.msg_qbytes, now.msg_lspid, now.msg_lrpid);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	int full = msgget(KEY, IPC_CREAT | IPC_EXCL | 0640);
	int empty = msgget(IPC_PRIVATE, 0600);
	int sent = msgget(KEY + 1, IPC_CREAT | IPC_EXCL | 0600);
	struct msqid_ds limited = {.msg_perm = {.uid = OWNER, .gid = GROUP, .mode = 0622}, .msg_qbytes = LIMIT};

	for (int i = 0; i < COUNT; i++)
		send(&subject, full, i);
	check_next(&subject, full, 0);
	send(&subject, empty, 3);
	check_next(&subject, empty, 3);
	send(&subject, sent, 6);
	if (msgctl(sent, IPC_SET, &limited) < 0)
		subject_fail(&subject, "limit: errno %d", errno);
	const struct msqid_ds before[] = {look(&subject, full), look(&subject, empty), look(&subject, sent)};

	subject_ready(&subject);

	check_same(&subject, full, &before[0]);
	check_same(&subject, empty, &before[1]);
	check_same(&subject, sent, &before[2]);
	if (msgget(KEY, 0) != full)
		subject_fail(&subject, "its key doesn't lead to it: errno %d", errno);
	for (int i = 1; i < COUNT; i++)
		check_next(&subject, full, i);
	check_next(&subject, sent, 6);
	if (look(&subject, full).msg_qnum != 0 || msgctl(full, IPC_RMID, NULL) < 0 ||
	    msgctl(empty, IPC_RMID, NULL) < 0 || msgctl(sent, IPC_RMID, NULL) < 0)
		subject_fail(&subject, "in the end: errno %d", errno);
	return subject_pass(&subject);
}
