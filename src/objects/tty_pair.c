/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "objects/file_extra.h"
#include "objects/pty_queue.h"
#include "objects/tty_pair.h"
#include "task/process.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum {
	PTYS_MAX = 4096,   /* of one instance of devpts, if the administrator hasn't changed it */
	READ_BYTES = 4095, /* that went through the line discipline and wait to be read, at most */
};

/* ---- Its number ---- */

struct error *tty_pair_preflight(const TtyInfoEntry *master)
{
	auto_open_files struct open_files nobody = {0};
	auto_free char *path = xformat("/dev/pts/%u", master->pty->index);
	struct stat slave;

	if (stat(path, &slave) < 0)
		return NULL;
	pid_t pid = open_files_outsider(&nobody, &slave);
	auto_free char *process = pid ? open_files_process_text(pid) : NULL;
	return error_hint(error_new(EEXIST, "pseudoterminal %s is in use here%s%s", path,
	                            process ? ", by process " : "", process ? process : ""),
	                  "The program knows its terminal by that name; --pids new doesn't give it another /dev/pts");
}

static struct error *new_master(int *ret_fd, unsigned *ret_index)
{
	int unlocked = 0;
	auto_fd int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TIOCGPTN, ret_index) < 0 || ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
		return error_new(errno, "new pseudoterminal (/dev/ptmx)");
	*ret_fd = take(fd);
	return NULL;
}

/* The kernel gives out the lowest free number, so those below are held until it is the wanted one. */
static struct error *master_with(unsigned wanted, int *ret_fd)
{
	auto_free int *held = xalloc(PTYS_MAX * sizeof(*held));
	size_t count = 0;
	unsigned index = 0;
	struct error *error = NULL;

	while (!error && count < PTYS_MAX) {
		error = new_master(&held[count], &index);
		count += !error;
		if (index >= wanted)
			break;
	}
	if (!error && index == wanted)
		*ret_fd = held[--count];
	else if (!error)
		error = error_new(EEXIST, "pseudoterminal /dev/pts/%u is in use here", wanted);
	while (count > 0)
		close(held[--count]);
	return error;
}

/* O_CLOEXEC would stay among the status flags (seen on Linux 6.18), where /proc shows it for all descriptors. */
static struct error *open_peer(int master, uint32_t flags, int *ret_fd)
{
	auto_fd int fd = ioctl(master, TIOCGPTPEER, (flags & O_ACCMODE) | O_NOCTTY);

	if (fd < 0)
		return error_new(errno, "TIOCGPTPEER");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_new(errno, "F_SETFD");
	*ret_fd = take(fd);
	return NULL;
}

/* Made from one store after the other, a program has each pair once: closing a master would hang up its session. No
 * deleted file has inode 0. */
static struct error *make_pair(unsigned index, struct restore_files *restore, int *ret_master)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	int master = -1;

	TRY(tty_entry_master(restore_store(restore), index, &info));
	if (!info)
		return error_new(EBADMSG, "pseudoterminal %u without a master", index);
	TRY(master_with(index, &master));
	restore_ghost_give(restore, 0, tty_slave_device(index), master);
	*ret_master = master;
	/* Before somebody has it, whom a change of its size would be told. */
	return tty_settings_apply(master, info, true);
}

/* Borrowed. */
static struct error *find_pair(unsigned index, struct restore_files *restore, int *ret_master)
{
	*ret_master = restore_ghost_borrow(restore, 0, tty_slave_device(index));
	return *ret_master < 0 ? make_pair(index, restore, ret_master) : NULL;
}

/* ---- The terminal of a session ---- */

/* By its leader: nobody else may. An earlier store may have told of it. */
static struct error *give_to_leader(int master, struct process *leader, int own_pidfd)
{
	int opened;

	if (procfs_terminal(leader->pid))
		return NULL;
	TRY(open_peer(master, O_RDWR, &opened));
	auto_fd int fd = opened;
	auto_batch struct batch *batch = process_batch(leader, 0);
	struct arg there = batch_call(batch, pidfd_getfd, val((uint64_t)own_pidfd), val((uint64_t)fd), val(0));
	batch_call(batch, ioctl, there, val(TIOCSCTTY), val(0));
	batch_call(batch, close, there);
	return process_run(leader, batch);
}

struct error *tty_pair_begin_session(struct restore_files *restore, pid_t session, struct process *leader,
                                     int own_pidfd)
{
	auto_tty_entry TtyInfoEntry *slave = NULL;
	auto_tty_entry TtyInfoEntry *master_info = NULL;
	int master;

	TRY(tty_entry_of_session(restore_store(restore), (uint32_t)session, &slave));
	if (!slave)
		return NULL;
	TRY(tty_entry_master(restore_store(restore), slave->pty->index, &master_info));
	if (!master_info)
		return NULL;
	TRY(find_pair(slave->pty->index, restore, &master));
	return give_to_leader(master, leader, own_pidfd);
}

static struct error *find_leader(const struct restore_files *restore, uint32_t session, struct process **ret_leader)
{
	*ret_leader = restore_task_by_pid(restore, (pid_t)session);
	return *ret_leader ? NULL : error_new(ESRCH, "terminal of session %u, whose leader isn't there", session);
}

/* A group that has no process any more can't be put there; nothing but its number tells that it was there. */
static struct error *check_group(const struct batch *batch, struct arg set, uint32_t group)
{
	int64_t result = batch_result(batch, set);

	return result < 0 && result != -ESRCH && result != -EPERM ? error_new((int)-result, "TIOCSPGRP(%u)", group)
	                                                          : NULL;
}

/* When all groups are there. */
static struct error *set_foreground(const TtyInfoEntry *slave, int master, const struct restore_files *restore)
{
	int own_pidfd = restore_task(restore)->own_pidfd;
	struct process *leader;
	int opened;

	TRY(find_leader(restore, slave->sid, &leader));
	TRY(give_to_leader(master, leader, own_pidfd));
	TRY(open_peer(master, O_RDWR, &opened));
	auto_fd int fd = opened;
	auto_batch struct batch *batch = process_batch(leader, 0);
	struct arg there = batch_call(batch, pidfd_getfd, val((uint64_t)own_pidfd), val((uint64_t)fd), val(0));
	struct arg set =
		batch_call(batch, ioctl, there, val(TIOCSPGRP), batch_bytes(batch, &slave->pgrp, sizeof(slave->pgrp)));
	batch_may_fail(batch, set);
	batch_call(batch, close, there);
	TRY(process_run(leader, batch), "terminal of session %u", slave->sid);
	return check_group(batch, set, slave->pgrp);
}

/* ---- New descriptions ---- */

struct error *tty_pair_open_master(const TtyInfoEntry *info, struct restore_files *restore, int *ret_fd)
{
	int master;

	TRY(find_pair(info->pty->index, restore, &master));
	*ret_fd = fcntl(master, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? error_new(errno, "F_DUPFD_CLOEXEC") : NULL;
}

struct error *tty_pair_open_slave(const TtyInfoEntry *info, uint32_t flags, struct restore_files *restore, int *ret_fd)
{
	int master;

	TRY(find_pair(info->pty->index, restore, &master));
	return open_peer(master, flags, ret_fd);
}

struct error *tty_pair_open_current(const TtyInfoEntry *info, uint32_t flags, struct restore_files *restore,
                                    int *ret_fd)
{
	static const char path[] = "/dev/tty";
	struct process *leader;

	TRY(find_leader(restore, info->sid, &leader));
	TRY(tty_pair_begin_session(restore, (pid_t)info->sid, leader, restore_task(restore)->own_pidfd));
	auto_batch struct batch *batch = process_batch(leader, 0);
	auto_batch struct batch *end = process_batch(leader, 0);
	struct arg there = batch_call(batch, openat, val((uint64_t)AT_FDCWD), batch_bytes(batch, path, sizeof(path)),
	                              val((flags & O_ACCMODE) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), val(0));
	TRY(process_run(leader, batch));
	auto_fd int fd = (int)syscall(SYS_pidfd_getfd, leader->pidfd, (int)batch_result(batch, there), 0);
	if (fd < 0)
		return error_new(errno, "pidfd_getfd of %s", path);
	batch_call(end, close, val((uint64_t)batch_result(batch, there)));
	TRY(process_run(leader, end));
	*ret_fd = take(fd);
	return NULL;
}

struct error *tty_pair_open_hung_up(uint32_t flags, int *ret_fd)
{
	unsigned index;
	int opened;

	TRY(new_master(&opened, &index));
	auto_fd int master = opened; /* its end hangs up the other one */
	return open_peer(master, flags, ret_fd);
}

/* ---- What is under way ---- */

static uint64_t key_of(const ProtobufCMessage *message)
{
	return ((const TtyDataEntry *)message)->tty_id;
}

static struct error *fill(const struct pty_bytes *bytes, uint32_t id, struct restore_files *restore)
{
	ProtobufCMessage *message;
	size_t index;
	bool is_found;

	TRY(restore_find(restore, IMAGE_TTY_DATA, key_of, id, &is_found, &index));
	if (!is_found)
		return NULL;
	TRY(image_get(restore_store(restore), IMAGE_TTY_DATA, 0, index, &message));
	const TtyDataEntry *data = (const TtyDataEntry *)message;
	struct error *error = pty_bytes_fill(bytes, data->data.data, data->data.len);
	protobuf_c_message_free_unpacked(message, NULL);
	return error;
}

static struct error *take_lines(const PtyExtraEntry *extra, size_t size_bytes, struct pty_state *state)
{
	size_t bytes = 0;

	if (extra->n_line_bytes > PTY_LINES_MAX || extra->n_line_is_marked != extra->n_line_bytes)
		return error_new(EBADMSG, "%zu lines of a pseudoterminal", extra->n_line_bytes);
	for (size_t i = 0; i < extra->n_line_bytes; i++) {
		bytes += extra->line_bytes[i];
		if (bytes > size_bytes || extra->line_bytes[i] > UINT16_MAX)
			return error_new(EBADMSG, "lines of a pseudoterminal, longer than what waits in it");
		state->lines[state->line_count++] = (struct pty_line){
			.bytes = (uint16_t)extra->line_bytes[i],
			.is_marked = extra->line_is_marked[i],
		};
	}
	return NULL;
}

/* In an image that isn't ours: a line ends where its last byte tells. */
static struct error *guess_lines(const struct pty *pty)
{
	struct pty_state *state = pty->state;
	auto_free uint8_t *bytes = NULL;
	size_t size_bytes;
	size_t begin = 0;

	TRY(pty_bytes_read(&pty->input, &bytes, &size_bytes));
	for (size_t i = 0; i < size_bytes && state->line_count < PTY_LINES_MAX; i++) {
		if (bytes[i] != '\n' || i - begin >= READ_BYTES)
			continue;
		state->lines[state->line_count++].bytes = (uint16_t)(i + 1 - begin);
		begin = i + 1;
	}
	return NULL;
}

static struct error *take_extra(const struct pty *pty, const PtyExtraEntry *extra)
{
	struct pty_state *state = pty->state;
	size_t processed = extra ? extra->processed_bytes : READ_BYTES;
	size_t size_bytes;

	TRY(pty_bytes_size(&pty->input, &size_bytes));
	state->processed_bytes = (uint32_t)(processed < size_bytes ? processed : size_bytes);
	if (state->processed_bytes > READ_BYTES && !pty_is_canonical(state))
		return error_new(EBADMSG, "%u bytes that wait in a pseudoterminal", state->processed_bytes);
	if (!extra)
		return pty_is_canonical(state) ? guess_lines(pty) : NULL;
	if (extra->slave > PTY_SLAVE_UNOPENED || extra->output > PTY_OUTPUT_STOPPED_BY_KEY)
		return error_new(EBADMSG, "pseudoterminal in state %u, %u", extra->slave, extra->output);
	state->slave = (enum pty_slave)extra->slave;
	state->output = (enum pty_output)extra->output;
	state->is_master_stopped = extra->is_master_stopped;
	state->mode = extra->mode & 07777;
	return take_lines(extra, size_bytes, state);
}

static struct error *take_state(const struct pty *pty, const TtyInfoEntry *master, const TtyInfoEntry *slave,
                                struct restore_files *restore)
{
	struct pty_state *state = pty->state;
	auto_file_extra FileExtraEntry *extra = NULL;

	TRY(fill(&pty->output, master->id, restore));
	if (slave)
		TRY(fill(&pty->input, slave->id, restore));
	TRY(file_extra_find(restore, FD_TYPES__TTY, master->id, &extra));
	TRY(take_extra(pty, extra ? extra->pty : NULL));
	state->is_packet = master->packet_mode;
	state->is_locked = master->locked;
	state->is_exclusive = slave && slave->exclusive;
	if (slave && slave->has_uid && slave->has_gid) {
		state->uid = slave->uid;
		state->gid = slave->gid;
	} else {
		state->mode = 0;
	}
	return NULL;
}

struct error *tty_pair_finish(const TtyInfoEntry *master, struct restore_files *restore)
{
	auto_tty_entry TtyInfoEntry *slave = NULL;
	auto_pty struct pty *pty = NULL;
	int copy;

	if (!restore_note(restore, FD_TYPES__TTY, master->pty->index, 1))
		return NULL;
	TRY(tty_entry_slave(restore_store(restore), master->pty->index, &slave));
	TRY(tty_pair_open_master(master, restore, &copy));
	auto_fd int fd = copy;
	TRY(tty_settings_apply(fd, master, true));
	if (slave && slave->sid)
		TRY(set_foreground(slave, fd, restore));
	TRY(pty_open(take(fd), &pty));
	TRY(take_state(pty, master, slave, restore));
	pty->state->stage = PTY_TAKEN;
	TRY(pty_put_back(pty));
	if (master->exclusive && ioctl(pty->master, TIOCEXCL) < 0)
		return error_new(errno, "TIOCEXCL");
	return NULL;
}
