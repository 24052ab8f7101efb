/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Terminals: tty(4), pty(7).
 *
 * Three cases. The terminal that the program was started from stays, for its other end is somebody else's: with
 * --shell-job the program gets the one that the restoring process has as its standard input, opened anew (O_NONBLOCK of
 * the program is not to become the shell's), with the termios that the program has set. A pseudoterminal whose master is
 * in the program is made again, with its number, what is under way in it (pty_queue.h), and as the terminal of its
 * session. A terminal whose other end has been closed comes back as one that has hung up.
 *
 * The window size of a terminal that stays is that of the new one, which is as large as it is; the program is told by
 * SIGWINCH.
 *
 * Trap: /dev/tty is a file of its own, whose device number is that of no terminal; which one it is, TIOCGDEV tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "objects/file_extra.h"
#include "objects/pty_hold.h"
#include "objects/standard_streams.h"
#include "objects/tty.h"
#include "objects/tty_info.h"
#include "objects/tty_restore.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/test_stop.h"

/* ---- Looking at one ---- */

static bool tty_recognizes(const struct open_file *file)
{
	return S_ISCHR(file->stat.st_mode) && !(file->status_flags & O_PATH) &&
	       tty_kind_of(file->stat.st_rdev) != TTY_NONE;
}

/* A master's number is told by fdinfo alone: its device number is that of all masters. */
static bool master_index(const struct open_file *file, uint64_t *ret_index)
{
	return tty_kind_of(file->stat.st_rdev) == TTY_MASTER && S_ISCHR(file->stat.st_mode) &&
	       procfs_number(file->fdinfo, "tty-index", 10, ret_index) == 0;
}

/* The program's own master with that number. */
static const struct open_file *find_master(const struct open_files *all, uint64_t index)
{
	for (size_t i = 0; i < all->count; i++) {
		uint64_t its_index;

		if (master_index(&all->list[i], &its_index) && its_index == index)
			return &all->list[i];
	}
	return NULL;
}

static const struct open_file *master_of_device(const struct open_files *all, dev_t device)
{
	return tty_kind_of(device) == TTY_SLAVE ? find_master(all, tty_slave_index(device)) : NULL;
}

bool tty_is_inside(const struct open_files *files, dev_t terminal)
{
	return master_of_device(files, terminal);
}

/* Which terminal it really is. */
static dev_t device_of(const struct open_file *file, int fd)
{
	unsigned device = 0;

	if (tty_kind_of(file->stat.st_rdev) != TTY_CURRENT)
		return file->stat.st_rdev;
	/* As the kernel encodes it: the major number in bits 8 to 19. */
	return ioctl(fd, TIOCGDEV, &device) < 0
	               ? 0
	               : makedev(device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
}

/* ---- Can it be carried? ---- */

static bool is_outside(const struct open_file *file, dev_t device)
{
	return device && tty_kind_of(device) != TTY_MASTER && !master_of_device(file->all, device);
}

/* Of the program as a whole: its controlling terminal, else the first one that it has. */
static dev_t terminal_of(const struct open_file *file)
{
	for (size_t i = 0; i < file->all->task_count; i++) {
		dev_t controlling = procfs_terminal(file->all->tasks[i].pid);

		if (is_outside(file, controlling))
			return controlling;
	}
	for (size_t i = 0; i < file->all->count; i++) {
		const struct open_file *other = &file->all->list[i];

		if (tty_recognizes(other) && is_outside(other, other->stat.st_rdev))
			return other->stat.st_rdev;
	}
	return 0;
}

static bool is_inherited(const struct open_file *file, int fd)
{
	return !tty_is_hung_up(fd) && is_outside(file, device_of(file, fd));
}

static bool tty_stays(const struct open_file *file)
{
	int copy;
	auto_error struct error *error = open_file_copy(file, &copy);

	if (error)
		return false;
	auto_fd int fd = copy;
	return is_inherited(file, fd);
}

static struct error *check_inherited(const struct open_file *file)
{
	enum tty_kind kind = tty_kind_of(file->stat.st_rdev);

	if (kind == TTY_CONSOLE)
		return error_hint(error_new(0, "the console, which stays"),
		                  "Start the program without it: setsid -f PROG </dev/null >LOG 2>&1");
	if (!file->options->shell_job)
		return error_hint(error_new(0, "a terminal, which stays with whoever holds its other end"), "%s",
		                  stdio_terminal_hint);
	if (kind == TTY_CURRENT || file->stat.st_rdev == terminal_of(file))
		return NULL;
	return error_hint(error_new(0, "a second terminal"),
	                  "With --shell-job the program gets one terminal, in the place of its controlling one");
}

static struct error *check_slave_inside(const struct open_file *file, int fd)
{
	struct stat named;
	int discipline = 0;

	if (ioctl(fd, TIOCGETD, &discipline) < 0 || discipline != N_TTY)
		return error_hint(error_new(0, "a pseudoterminal with line discipline %d", discipline),
		                  "Only that of terminals (N_TTY, 0) is carried: end what uses it (pppd, slattach …)");
	if (tty_kind_of(file->stat.st_rdev) == TTY_CURRENT)
		return NULL;
	if (stat(file->link, &named) < 0 || named.st_ino != file->stat.st_ino || named.st_dev != file->stat.st_dev)
		return error_new(0, "a pseudoterminal of another /dev/pts than the one here");
	return NULL;
}

static struct error *check_others(const struct open_file *file, uint64_t index)
{
	auto_free char *path = xformat("/dev/pts/%" PRIu64, index);
	struct stat slave;

	if (stat(path, &slave) < 0)
		return error_new(errno, "its other end %s", path);
	pid_t pid = open_files_outsider(file->all, &slave);
	if (!pid)
		return NULL;
	auto_free char *process = open_files_process_text(pid);
	return error_hint(error_new(0, "its other end %s is open in process %s", path, process),
	                  "A terminal is carried with both ends or not at all");
}

static struct error *check_master(const struct open_file *file, int fd)
{
	uint64_t index;
	pid_t session;

	if (!master_index(file, &index))
		return error_new(0, "no tty-index in its fdinfo, which Linux 4.14 and newer show");
	if (ioctl(fd, TIOCGSID, &session) == 0 && !open_files_task(file->all, session))
		return error_new(0, "its other end is the controlling terminal of session %d", session);
	return check_others(file, index);
}

static struct error *check_copy(const struct open_file *file, int fd)
{
	if (tty_is_hung_up(fd))
		return NULL;
	if (tty_kind_of(file->stat.st_rdev) == TTY_MASTER)
		return check_master(file, fd);
	return is_inherited(file, fd) ? check_inherited(file) : check_slave_inside(file, fd);
}

static struct error *tty_check(const struct open_file *file)
{
	int copy;

	TRY(open_file_copy(file, &copy));
	auto_fd int fd = copy;
	return check_copy(file, fd);
}

/* ---- Saving ---- */

/* CRIU looks for the path of a terminal under regf_id. */
static uint32_t put_path(const struct open_file *file, struct image_store *store)
{
	RegFileEntry reg = REG_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	auto_free char *name = xformat("%.*s", (int)strcspn(file->link, " "), file->link);

	reg.id = open_files_new_id(file->all);
	reg.flags = file->status_flags;
	reg.fown = file->owner;
	reg.name = name;
	reg.has_mode = true;
	reg.mode = file->stat.st_mode;
	entry.type = FD_TYPES__REG;
	entry.id = reg.id;
	entry.reg = &reg;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return reg.id;
}

/* As the program's processes call it. Its leader may have ended. */
static pid_t own_group(const struct open_files *all, pid_t group)
{
	const struct open_task *leader = open_files_task(all, group);
	pid_t own = group;
	pid_t session;

	if (leader)
		return leader->own_pid;
	for (size_t i = 0; i < all->task_count; i++)
		if (getpgid(all->tasks[i].pid) == group && procfs_own_groups(all->tasks[i].pid, &own, &session) == 0)
			return own;
	return group;
}

/* Of the session that has it as its controlling terminal, and the group in its foreground: proc_pid_stat(5). */
static void put_session_that_stays(const struct open_file *file, TtyInfoEntry *info)
{
	uint64_t session;
	uint64_t foreground;

	if (procfs_terminal(file->pid) != file->stat.st_rdev || procfs_stat_field(file->pid, 6, &session) < 0 ||
	    procfs_stat_field(file->pid, 8, &foreground) < 0)
		return;
	info->sid = (uint32_t)session;
	info->pgrp = (uint32_t)foreground;
}

/* The same of a pseudoterminal in the program, which its master tells. */
static struct error *put_session(const struct open_file *master, TtyInfoEntry *info)
{
	pid_t session;
	pid_t foreground = 0;
	int copy;

	TRY(open_file_copy(master, &copy));
	auto_fd int fd = copy;
	if (ioctl(fd, TIOCGSID, &session) < 0)
		return NULL;
	const struct open_task *leader = open_files_task(master->all, session);
	if (!leader)
		return error_new(0, "a pseudoterminal that is the controlling terminal of session %d", session);
	if (ioctl(fd, TIOCGPGRP, &foreground) < 0)
		return error_new(errno, "TIOCGPGRP");
	info->sid = (uint32_t)leader->own_pid;
	info->pgrp = (uint32_t)own_group(master->all, foreground);
	return NULL;
}

/* In tty-info.img. Whichever end or path is open, a terminal has one for each of them. False where it has it already. */
static bool new_info_id(struct open_files *all, dev_t kind, dev_t device, uint32_t hung_up_id, uint32_t *ret_id)
{
	return open_files_first(all, FD_TYPES__TTY, (uint64_t)kind << 32 | device, hung_up_id, ret_id);
}

static void put_owner(int fd, enum tty_kind kind, TtyInfoEntry *info)
{
	struct stat node;

	if (kind != TTY_SLAVE || fstat(fd, &node) < 0)
		return;
	info->has_uid = true;
	info->uid = node.st_uid;
	info->has_gid = true;
	info->gid = node.st_gid;
}

/* Puts what is known of the terminal, unless another description of it has done so. */
static struct error *put_info(const struct open_file *file, int fd, struct image_store *store, uint32_t *ret_id)
{
	enum tty_kind kind = tty_kind_of(file->stat.st_rdev);
	bool is_hung_up = tty_is_hung_up(fd);
	struct tty_settings settings;
	uint64_t index = kind == TTY_SLAVE ? tty_slave_index(file->stat.st_rdev) : 0;
	dev_t device = device_of(file, fd);

	if (kind == TTY_MASTER && !master_index(file, &index))
		return error_new(EINVAL, "tty-index in fdinfo");
	if (kind == TTY_MASTER)
		device = tty_slave_device((unsigned)index);
	/* Hung up, each description stands alone: what it was has gone, and its number may be another's by now. */
	if (!new_info_id(file->all, file->stat.st_rdev, device, is_hung_up ? file->id : 0, ret_id))
		return NULL;
	TRY(tty_settings_read(fd, kind, is_hung_up, &settings));
	const struct open_file *master = is_hung_up ? NULL : master_of_device(file->all, device);
	settings.info.id = *ret_id;
	settings.info.rdev = (uint32_t)file->stat.st_rdev;
	settings.pty.index = (uint32_t)index;
	if (kind != TTY_MASTER && master)
		TRY(put_session(master, &settings.info));
	else if (kind == TTY_SLAVE)
		put_session_that_stays(file, &settings.info);
	put_owner(fd, kind, &settings.info);
	image_put(store, IMAGE_TTY_INFO, 0, &settings.info.base);
	return NULL;
}

static struct error *tty_save(const struct open_file *file, struct image_store *store)
{
	TtyFileEntry tty = TTY_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	int copy;

	TRY(open_file_copy(file, &copy));
	auto_fd int fd = copy;
	TRY(put_info(file, fd, store, &tty.tty_info_id));
	tty.id = file->id;
	tty.flags = file->status_flags;
	tty.fown = file->owner;
	tty.has_regf_id = true;
	tty.regf_id = put_path(file, store);
	entry.type = FD_TYPES__TTY;
	entry.id = file->id;
	entry.tty = &tty;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

/* ---- What is under way ---- */

/* One of the descriptions of a master stands for the pair. */
static bool tty_needs_hold(const struct open_file *file)
{
	uint64_t index;

	return master_index(file, &index) && find_master(file->all, index) == file;
}

static struct error *tty_hold(const struct open_file *file, int *ret_fd, uint32_t *ret_before)
{
	int copy;

	*ret_before = 0;
	TRY(open_file_copy(file, &copy));
	return pty_hold(copy, ret_fd);
}

static struct error *put_data(const struct pty_bytes *taken, uint32_t id, struct image_store *store)
{
	TtyDataEntry entry = TTY_DATA_ENTRY__INIT;
	auto_free uint8_t *bytes = NULL;

	TRY(pty_bytes_read(taken, &bytes, &entry.data.len));
	if (entry.data.len == 0)
		return NULL;
	entry.tty_id = id;
	entry.data.data = bytes;
	image_put(store, IMAGE_TTY_DATA, 0, &entry.base);
	return NULL;
}

static void put_extra(const struct pty_state *state, uint32_t master_id, struct image_store *store)
{
	FileExtraEntry entry = FILE_EXTRA_ENTRY__INIT;
	PtyExtraEntry pty = PTY_EXTRA_ENTRY__INIT;
	auto_free uint32_t *bytes = xalloc((state->line_count + 1) * sizeof(*bytes));
	auto_free protobuf_c_boolean *marks = xalloc((state->line_count + 1) * sizeof(*marks));

	for (size_t i = 0; i < state->line_count; i++) {
		bytes[i] = state->lines[i].bytes;
		marks[i] = state->lines[i].is_marked;
	}
	pty.slave = state->slave;
	pty.output = state->output;
	pty.is_master_stopped = state->is_master_stopped;
	pty.mode = state->mode;
	pty.processed_bytes = state->processed_bytes;
	pty.n_line_bytes = state->line_count;
	pty.line_bytes = bytes;
	pty.n_line_is_marked = state->line_count;
	pty.line_is_marked = marks;
	entry.type = FD_TYPES__TTY;
	entry.id = master_id;
	entry.pty = &pty;
	image_put(store, IMAGE_FILE_EXTRA, 0, &entry.base);
}

/* Of a slave that no descriptor stands for, since it is closed. */
static struct error *put_closed_slave(const struct pty *pty, uint64_t index, uint32_t id, struct image_store *store)
{
	struct tty_settings settings;

	TRY(tty_settings_read(pty->master, TTY_SLAVE, false, &settings));
	settings.info.id = id;
	settings.info.rdev = (uint32_t)tty_slave_device((unsigned)index);
	settings.pty.index = (uint32_t)index;
	settings.info.has_uid = true;
	settings.info.uid = pty->state->uid;
	settings.info.has_gid = true;
	settings.info.gid = pty->state->gid;
	image_put(store, IMAGE_TTY_INFO, 0, &settings.info.base);
	return NULL;
}

static struct error *put_queues(const struct open_file *file, const struct pty *pty, struct image_store *store)
{
	uint64_t index = 0;
	uint32_t master_id;
	uint32_t slave_id;

	if (!master_index(file, &index))
		return error_new(EINVAL, "tty-index in fdinfo");
	dev_t slave = tty_slave_device((unsigned)index);
	if (new_info_id(file->all, file->stat.st_rdev, slave, 0, &master_id))
		return error_new(EINVAL, "a master that hasn't been saved");
	if (new_info_id(file->all, slave, slave, 0, &slave_id))
		TRY(put_closed_slave(pty, index, slave_id, store));
	TRY(put_data(&pty->output, master_id, store));
	TRY(put_data(&pty->input, slave_id, store));
	put_extra(pty->state, master_id, store);
	return NULL;
}

/* Put back at once: what goes on here later, in whatever way, goes on with it. */
static struct error *tty_save_held(const struct open_file *file, int held, struct image_store *store)
{
	auto_pty struct pty *pty = NULL;

	TRY(pty_hold_open(held, &pty));
	TRY(pty_take(pty));
	test_stop("pty-taken");
	struct error *error = put_queues(file, pty, store);
	return error_join(error, pty_put_back(pty));
}

const struct file_ops tty_ops = {
	.name = "tty",
	.type = FD_TYPES__TTY,
	.recognizes = tty_recognizes,
	.check = tty_check,
	.stays = tty_stays,
	.needs_hold = tty_needs_hold,
	.hold = tty_hold,
	.go_on = pty_hold_go_on,
	.save = tty_save,
	.save_held = tty_save_held,
	.entry_stays = tty_entry_stays,
	.preflight = tty_preflight,
	.restore = tty_restore,
	.finish = tty_finish,
	.resume = tty_resume,
};
