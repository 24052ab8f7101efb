/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <unistd.h>

#include "objects/unix_make.h"
#include "task/process.h"

static const uint64_t as_before = UINT32_MAX; /* of setresuid(2) */

/* Effective IDs alone: they are what is remembered, and the way back stays open. Groups stay: the program's own ones are
 * set at the end. */
static void become(struct batch *batch, const GodwitSocketEntry *extras)
{
	if (!extras || !extras->has_peer_uid || !extras->has_peer_gid)
		return;
	/* Not where the user namespace forbids it: user_namespaces(7). */
	if (extras->n_peer_groups <= UINT16_MAX)
		batch_may_fail(batch, batch_call(batch, setgroups, val(extras->n_peer_groups),
		                                 batch_bytes(batch, extras->peer_groups,
		                                             extras->n_peer_groups * sizeof(uint32_t))));
	batch_call(batch, setresgid, val(as_before), val(extras->peer_gid), val(as_before));
	batch_call(batch, setresuid, val(as_before), val(extras->peer_uid), val(as_before));
}

static void become_ourselves(struct batch *batch, const GodwitSocketEntry *extras)
{
	if (!extras || !extras->has_peer_uid || !extras->has_peer_gid)
		return;
	batch_call(batch, setresuid, val(as_before), val(geteuid()), val(as_before));
	batch_call(batch, setresgid, val(as_before), val(getegid()), val(as_before));
}

/* ---- A pair ---- */

static struct error *fetch(const struct process *process, const int there[2], int ret_fds[2])
{
	auto_fd int first = (int)syscall(SYS_pidfd_getfd, process->pidfd, there[0], 0);
	auto_fd int second = (int)syscall(SYS_pidfd_getfd, process->pidfd, there[1], 0);

	if (first < 0 || second < 0)
		return error_new(errno, "pidfd_getfd of a new socket");
	ret_fds[0] = take(first);
	ret_fds[1] = take(second);
	return NULL;
}

struct error *unix_make_pair(const struct restore_files *restore, int type, const GodwitSocketEntry *extras,
                             int ret_fds[2])
{
	const struct restore_task *task = restore_task(restore);
	int there[2];

	if (!task)
		return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret_fds) < 0 ? error_new(errno, "socketpair") : NULL;
	auto_batch struct batch *batch = process_batch(task->process, 0);
	become(batch, extras);
	struct arg space = batch_space(batch, sizeof(there));
	batch_call(batch, socketpair, val(AF_UNIX), val((uint64_t)type | SOCK_CLOEXEC), val(0), space);
	become_ourselves(batch, extras);
	TRY(process_run(task->process, batch));
	memcpy(there, batch_output(batch, space), sizeof(there));

	struct error *error = fetch(task->process, there, ret_fds);
	auto_batch struct batch *end = process_batch(task->process, 0);
	batch_call(end, close, val((uint64_t)there[0]));
	batch_call(end, close, val((uint64_t)there[1]));
	return error_join(error, process_run(task->process, end));
}

/* ---- One socket ---- */

struct error *unix_make_listener(const struct restore_files *restore, int fd, int backlog,
                                 const GodwitSocketEntry *extras)
{
	const struct restore_task *task = restore_task(restore);

	if (!task)
		return listen(fd, backlog) < 0 ? error_new(errno, "listen") : NULL;
	auto_batch struct batch *batch = process_batch(task->process, 0);
	struct arg there = batch_call(batch, pidfd_getfd, val((uint64_t)task->own_pidfd), val((uint64_t)fd), val(0));
	become(batch, extras);
	batch_call(batch, listen, there, val((uint64_t)backlog));
	become_ourselves(batch, extras);
	batch_call(batch, close, there);
	return process_run(task->process, batch);
}

struct error *unix_make_connection(const struct restore_files *restore, int fd, const struct unix_name *to,
                                   const GodwitSocketEntry *extras)
{
	const struct restore_task *task = restore_task(restore);

	if (!task)
		return connect(fd, (const struct sockaddr *)&to->address, to->bytes) < 0 ? error_new(errno, "connect")
		                                                                         : NULL;
	auto_batch struct batch *batch = process_batch(task->process, 0);
	struct arg there = batch_call(batch, pidfd_getfd, val((uint64_t)task->own_pidfd), val((uint64_t)fd), val(0));
	become(batch, extras);
	batch_call(batch, connect, there, batch_bytes(batch, &to->address, to->bytes), val(to->bytes));
	become_ourselves(batch, extras);
	batch_call(batch, close, there);
	return process_run(task->process, batch);
}
