/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Terminals: tty(4), pty(7).
 *
 * Three cases. The terminal that the program was started from stays, for its other end is somebody else's: with
 * --shell-job the program gets the one that the restoring process has as its standard input, opened anew (O_NONBLOCK of
 * the program is not to become the shell's), with the termios that the program has set. A pair whose two ends are both in
 * the program is made again, with its number. A terminal whose other end has been closed comes back as one that has
 * hung up.
 *
 * The window size is that of the new terminal, which is as large as it is; the program is told by SIGWINCH.
 *
 * Trap: what waits to be read can't be read without taking it away, so a pair in which something waits is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "objects/standard_streams.h"
#include "objects/tty.h"
#include "objects/tty_info.h"
#include "pstree.pb-c.h"
#include "task/process.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum {
	PTYS_MAX = 4096, /* of one instance of devpts, if the administrator hasn't changed it */
	ASLEEP_WAIT_MS = 200,
};

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

static bool is_slave(const struct open_file *file, uint64_t index)
{
	return S_ISCHR(file->stat.st_mode) && tty_kind_of(file->stat.st_rdev) == TTY_SLAVE &&
	       tty_slave_index(file->stat.st_rdev) == index;
}

/* The program's own master with that number. */
static bool has_master(const struct open_files *all, uint64_t index)
{
	for (size_t i = 0; i < all->count; i++) {
		uint64_t its_index;

		if (master_index(&all->list[i], &its_index) && its_index == index)
			return true;
	}
	return false;
}

static const struct open_file *find_slave(const struct open_files *all, uint64_t index)
{
	for (size_t i = 0; i < all->count; i++)
		if (is_slave(&all->list[i], index))
			return &all->list[i];
	return NULL;
}

static bool is_own_slave(const struct open_file *file)
{
	return tty_kind_of(file->stat.st_rdev) == TTY_SLAVE &&
	       has_master(file->all, tty_slave_index(file->stat.st_rdev));
}

/* ---- Can it be carried? ---- */

/* Of the program as a whole: its controlling terminal, else the first one that it has. */
static dev_t terminal_of(const struct open_file *file)
{
	dev_t controlling = procfs_terminal(file->pid);

	if (controlling)
		return controlling;
	for (size_t i = 0; i < file->all->count; i++) {
		const struct open_file *other = &file->all->list[i];

		if (tty_recognizes(other) && tty_kind_of(other->stat.st_rdev) != TTY_MASTER && !is_own_slave(other))
			return other->stat.st_rdev;
	}
	return 0;
}

static bool is_inherited(const struct open_file *file, int fd)
{
	return !tty_is_hung_up(fd) && tty_kind_of(file->stat.st_rdev) != TTY_MASTER && !is_own_slave(file);
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

static struct error *check_unread(int fd)
{
	int unread = 0;

	if (ioctl(fd, FIONREAD, &unread) < 0)
		return error_new(errno, "FIONREAD");
	if (unread == 0)
		return NULL;
	return error_hint(error_new(EAGAIN, "%d bytes wait to be read from it", unread),
	                  "Try again when the program has read them: nobody else can without taking them away");
}

static struct error *check_slave_inside(const struct open_file *file, int fd)
{
	struct stat named;

	if (stat(file->link, &named) < 0 || named.st_ino != file->stat.st_ino || named.st_dev != file->stat.st_dev)
		return error_new(0, "a pseudoterminal of another /dev/pts than the one here");
	return check_unread(fd);
}

static struct error *check_others(const struct open_file *file, uint64_t index)
{
	auto_free char *path = xformat("/dev/pts/%" PRIu64, index);
	auto_free char *name = NULL;
	struct stat slave;
	pid_t pid;

	if (stat(path, &slave) < 0)
		return error_new(errno, "its other end %s", path);
	pid = open_files_outsider(file->all, &slave);
	if (!pid)
		return NULL;
	if (procfs_read(pid, "comm", &name, NULL) == 0)
		name[strcspn(name, "\n")] = '\0';
	return error_new(0, "its other end %s is open in process %d (%s)", path, pid, name ? name : "?");
}

static struct error *check_master(const struct open_file *file, int fd)
{
	struct pollfd hangup = {.fd = fd, .events = POLLIN};
	uint64_t index;
	pid_t session;

	if (!master_index(file, &index))
		return error_new(0, "no tty-index in its fdinfo, which Linux 4.14 and newer show");
	if (ioctl(fd, TIOCGSID, &session) == 0)
		return error_new(0, "its other end is the controlling terminal of session %d", session);
	TRY(check_others(file, index));
	if (!find_slave(file->all, index) && poll(&hangup, 1, 0) == 1 && hangup.revents & POLLHUP)
		return error_hint(error_new(0, "its other end has been closed"), "The program should close it, too");
	return check_unread(fd);
}

static struct error *check_copy(const struct open_file *file, int fd)
{
	if (tty_is_hung_up(fd))
		return NULL;
	if (tty_kind_of(file->stat.st_rdev) == TTY_MASTER)
		return check_master(file, fd);
	return is_own_slave(file) ? check_slave_inside(file, fd) : check_inherited(file);
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

/* Of the session that has it as its controlling terminal, and the group in its foreground: proc_pid_stat(5). */
static void put_session(const struct open_file *file, TtyInfoEntry *info)
{
	uint64_t session;
	uint64_t foreground;

	if (tty_kind_of(file->stat.st_rdev) == TTY_MASTER || procfs_terminal(file->pid) != file->stat.st_rdev ||
	    procfs_stat_field(file->pid, 6, &session) < 0 || procfs_stat_field(file->pid, 8, &foreground) < 0)
		return;
	info->sid = (uint32_t)session;
	info->pgrp = (uint32_t)foreground;
}

/* Puts what is known of the terminal, unless another description of it has done so. */
static struct error *put_info(const struct open_file *file, int fd, struct image_store *store, uint32_t *ret_id)
{
	enum tty_kind kind = tty_kind_of(file->stat.st_rdev);
	bool is_hung_up = tty_is_hung_up(fd);
	struct tty_settings settings;
	uint64_t index = kind == TTY_SLAVE ? tty_slave_index(file->stat.st_rdev) : 0;

	if (kind == TTY_MASTER && !master_index(file, &index))
		return error_new(EINVAL, "tty-index in fdinfo");
	/* Hung up, each description stands alone: what it was has gone, and its number may be another's by now. */
	if (!open_files_first(file->all, FD_TYPES__TTY, (uint64_t)file->stat.st_rdev << 32 | index,
	                      is_hung_up ? file->id : 0, ret_id))
		return NULL;
	TRY(tty_settings_read(fd, kind, is_hung_up, &settings));
	settings.info.id = *ret_id;
	settings.info.rdev = (uint32_t)file->stat.st_rdev;
	settings.pty.index = (uint32_t)index;
	put_session(file, &settings.info);
	image_put(store, IMAGE_TTY_INFO, 0, &settings.info.base);
	return NULL;
}

/* The program may have written to it since it was checked. */
static struct error *check_again(const struct open_file *file, int fd)
{
	if (tty_is_hung_up(fd) || is_inherited(file, fd))
		return NULL;
	return check_unread(fd);
}

static struct error *tty_save(const struct open_file *file, struct image_store *store)
{
	TtyFileEntry tty = TTY_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	int copy;

	TRY(open_file_copy(file, &copy));
	auto_fd int fd = copy;
	TRY(check_again(file, fd));
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

/* ---- In images ---- */

static void info_free(TtyInfoEntry *info)
{
	if (info)
		tty_info_entry__free_unpacked(info, NULL);
}
DEFINE_OWNED(TtyInfoEntry *, info_free)
#define auto_info AUTO(info_free)

static bool has_id(const TtyInfoEntry *info, uint64_t id)
{
	return info->id == id;
}

static bool is_pty(const TtyInfoEntry *info, uint64_t index, enum tty_kind kind)
{
	return info->type == TTY_TYPE__PTY && info->termios && info->pty && info->pty->index == index &&
	       tty_kind_of(info->rdev) == kind;
}

static bool is_master_of(const TtyInfoEntry *info, uint64_t index)
{
	return is_pty(info, index, TTY_MASTER);
}

/* *ret_info is NULL where there is none. The caller frees it. */
static struct error *find_info(const struct image_store *store,
                               bool (*is_it)(const TtyInfoEntry *info, uint64_t number), uint64_t number,
                               TtyInfoEntry **ret_info)
{
	*ret_info = NULL;
	for (size_t i = 0; i < image_count(store, IMAGE_TTY_INFO, 0); i++) {
		auto_info TtyInfoEntry *info = NULL;

		TRY(image_get(store, IMAGE_TTY_INFO, 0, i, (ProtobufCMessage **)&info));
		if (!is_it(info, number))
			continue;
		*ret_info = take(info);
		return NULL;
	}
	return NULL;
}

static struct error *info_of(const FileEntry *entry, const struct image_store *store, TtyInfoEntry **ret_info)
{
	if (!entry->tty)
		return error_new(EBADMSG, "file entry of type TTY without a terminal");
	TRY(find_info(store, has_id, entry->tty->tty_info_id, ret_info));
	return *ret_info ? NULL : error_new(EBADMSG, "tty-info.img has no terminal %#x", entry->tty->tty_info_id);
}

/* What an entry becomes. */
enum becomes { BECOMES_HUNG_UP, BECOMES_MASTER, BECOMES_SLAVE, BECOMES_OURS };

static struct error *find_out(const TtyInfoEntry *info, const struct image_store *store, enum becomes *ret_becomes)
{
	auto_info TtyInfoEntry *master = NULL;

	*ret_becomes = BECOMES_OURS;
	if (info->type != TTY_TYPE__PTY)
		return NULL;
	if (!info->pty)
		return error_new(EBADMSG, "pseudoterminal %#x without a number", info->id);
	if (!info->termios) {
		*ret_becomes = BECOMES_HUNG_UP;
		return NULL;
	}
	TRY(find_info(store, is_master_of, info->pty->index, &master));
	if (master)
		*ret_becomes = master->id == info->id ? BECOMES_MASTER : BECOMES_SLAVE;
	return NULL;
}

static bool tty_entry_stays(const FileEntry *entry, const struct restore_files *restore)
{
	auto_info TtyInfoEntry *info = NULL;
	enum becomes becomes = BECOMES_HUNG_UP;
	auto_error struct error *error = info_of(entry, restore_store(restore), &info);

	if (!error)
		error = find_out(info, restore_store(restore), &becomes);
	return !error && becomes == BECOMES_OURS;
}

static bool has_session(const TtyInfoEntry *info, uint64_t unused)
{
	(void)unused;
	return info->sid != 0;
}

bool tty_is_of_session(const struct image_store *store)
{
	auto_info TtyInfoEntry *info = NULL;
	auto_error struct error *error = find_info(store, has_session, 0, &info);

	return !error && info;
}

/* ---- Making them ---- */

/* The terminal that we are called from. */
static const char own_terminal[] = "/proc/self/fd/0";

static struct error *check_own_terminal(const TtyInfoEntry *info, const struct carry_options *options)
{
	pid_t session;

	if (!options->shell_job)
		return error_hint(
			error_new(0, "the program had a terminal, whose place another one takes"),
			"--shell-job: the program joins the session and the terminal from which godwit was called");
	if (!isatty(STDIN_FILENO))
		return error_hint(
			error_new(ENOTTY, "the program had a terminal, and standard input here is none"),
			"godwit restore --shell-job, or godwit receive --listen for migrate, is to be called from "
			"a terminal, which becomes the program's; or migrate, save or restore it with --stdio null "
			"instead");
	if (info->sid && (ioctl(STDIN_FILENO, TIOCGSID, &session) < 0 || session != getsid(0)))
		return error_hint(error_new(ENOTTY, "the program had a controlling terminal, and we have none"),
		                  "call godwit from the shell that is to have the program as its job");
	return NULL;
}

static struct error *tty_preflight(const FileEntry *entry, struct restore_files *restore)
{
	auto_info TtyInfoEntry *info = NULL;
	enum becomes becomes;

	TRY(info_of(entry, restore_store(restore), &info));
	TRY(find_out(info, restore_store(restore), &becomes));
	if (becomes == BECOMES_OURS)
		return check_own_terminal(info, restore_options(restore));
	if (becomes != BECOMES_MASTER)
		return NULL;
	auto_free char *path = xformat("/dev/pts/%u", info->pty->index);
	return access(path, F_OK) < 0 ? NULL : error_new(EEXIST, "pseudoterminal %s is in use here", path);
}

static struct error *open_own(const TtyInfoEntry *info, const struct carry_options *options, uint32_t flags,
                              int *ret_fd)
{
	const char *path = info->type == TTY_TYPE__CTTY ? "/dev/tty" : own_terminal;

	TRY(check_own_terminal(info, options));
	/* O_NONBLOCK: a serial line may wait for a carrier. */
	int fd = open(path, (int)(flags & O_ACCMODE) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "open(%s)", path);
	*ret_fd = fd;
	return NULL;
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

static struct error *open_peer(int master, uint32_t flags, int *ret_fd)
{
	int fd = ioctl(master, TIOCGPTPEER, (flags & O_ACCMODE) | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "TIOCGPTPEER");
	*ret_fd = fd;
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

/* Both ends belong to one pair, which is made for the first of them. The master is borrowed. */
static struct error *find_pair(const TtyInfoEntry *info, struct restore_files *restore, int *ret_master)
{
	unsigned index = info->pty->index;
	int master = restore_spare_borrow(restore, FD_TYPES__TTY, index);

	if (master < 0) {
		TRY(master_with(index, &master));
		restore_spare_give(restore, FD_TYPES__TTY, index, master);
		TRY(tty_settings_apply(master, info, true));
	}
	*ret_master = master;
	return NULL;
}

static struct error *open_pair(const TtyInfoEntry *info, enum becomes becomes, uint32_t flags,
                               struct restore_files *restore, int *ret_fd)
{
	int master;

	TRY(find_pair(info, restore, &master));
	if (becomes == BECOMES_SLAVE)
		return open_peer(master, flags, ret_fd);
	*ret_fd = fcntl(master, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? error_new(errno, "F_DUPFD_CLOEXEC") : NULL;
}

static struct error *open_hung_up(uint32_t flags, int *ret_fd)
{
	unsigned index;
	int opened;

	TRY(new_master(&opened, &index));
	auto_fd int master = opened; /* its end hangs up the other one */
	return open_peer(master, flags, ret_fd);
}

static struct error *tty_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                 struct made_file *ret_made)
{
	auto_info TtyInfoEntry *info = NULL;
	enum becomes becomes;
	int fd = -1;

	(void)batch;
	TRY(info_of(entry, restore_store(restore), &info));
	TRY(find_out(info, restore_store(restore), &becomes));
	switch (becomes) {
	case BECOMES_OURS:
		TRY(open_own(info, restore_options(restore), entry->tty->flags, &fd));
		break;
	case BECOMES_HUNG_UP:
		TRY(open_hung_up(entry->tty->flags, &fd));
		break;
	case BECOMES_MASTER:
	case BECOMES_SLAVE:
		TRY(open_pair(info, becomes, entry->tty->flags, restore, &fd));
		break;
	}
	*ret_made = (struct made_file){.local_fd = fd, .status_flags = entry->tty->flags, .owner = entry->tty->fown};
	return NULL;
}

/* What would have kept the other end from being opened, or have shown the reader that settings were made. */
static struct error *tty_finish(const struct placed_file *file, struct restore_files *restore, struct process *task)
{
	static const int is_set = 1;
	auto_batch struct batch *batch = process_batch(task, 0);
	auto_info TtyInfoEntry *info = NULL;
	struct arg set = batch_bytes(batch, &is_set, sizeof(is_set));
	struct arg fd = val((uint64_t)file->fd);
	enum becomes becomes;

	TRY(info_of(file->entry, restore_store(restore), &info));
	TRY(find_out(info, restore_store(restore), &becomes));
	if (becomes != BECOMES_MASTER && becomes != BECOMES_SLAVE)
		return NULL;
	if (info->locked)
		batch_call(batch, ioctl, fd, val(TIOCSPTLCK), set);
	if (info->packet_mode)
		batch_call(batch, ioctl, fd, val(TIOCPKT), set);
	if (info->exclusive)
		batch_call(batch, ioctl, fd, val(TIOCEXCL), val(0));
	return process_run(task, batch);
}

/* ---- The terminal that is ours, too ---- */

static struct error *read_pstree(const struct image_store *store, pid_t *ret_pid, pid_t *ret_group)
{
	ProtobufCMessage *message;

	TRY(image_get(store, IMAGE_PSTREE, 0, 0, &message));
	*ret_pid = (pid_t)((PstreeEntry *)message)->pid;
	*ret_group = (pid_t)((PstreeEntry *)message)->pgid;
	pstree_entry__free_unpacked((PstreeEntry *)message, NULL);
	return NULL;
}

static struct error *set_up_own(const TtyInfoEntry *info, const struct image_store *store, int fd)
{
	uint32_t rows;
	uint32_t columns;
	pid_t pid;
	pid_t group;

	TRY(read_pstree(store, &pid, &group));
	TRY(tty_window_read(fd, &rows, &columns));
	if (info->pgrp && info->pgrp == (uint32_t)group && tcsetpgrp(fd, getpgid(pid)) < 0)
		return error_new(errno, "tcsetpgrp(%d)", getpgid(pid));
	return tty_settings_apply(fd, info, rows == 0 && columns == 0);
}

/* Behind everything that can fail: until here the terminal is the shell's. */
static struct error *tty_resume(const FileEntry *entry, const struct image_store *store, int fd)
{
	auto_info TtyInfoEntry *info = NULL;
	enum becomes becomes;
	sigset_t blocked;
	sigset_t before;

	TRY(info_of(entry, store, &info));
	TRY(find_out(info, store, &becomes));
	if (becomes != BECOMES_OURS)
		return NULL;
	/* Whoever sets something from the background is stopped by it otherwise: tcsetpgrp(3). */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &blocked, &before);
	struct error *error = set_up_own(info, store, fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

/* In a system call that a signal ends, if it is a program that waits for keys. */
static void wait_until_asleep(pid_t pid)
{
	for (int waited_ms = 0; waited_ms < ASLEEP_WAIT_MS; waited_ms++) {
		auto_free char *stat = NULL;

		if (procfs_read(pid, "stat", &stat, NULL) < 0)
			return;
		const char *name_end = strrchr(stat, ')');
		if (name_end && strlen(name_end) > 2 && name_end[2] == 'S')
			return;
		usleep(1000);
	}
}

static bool has_other_size(const TtyInfoEntry *info, uint64_t unused)
{
	uint32_t rows = 0;
	uint32_t columns = 0;
	auto_error struct error *error = tty_window_read(STDIN_FILENO, &rows, &columns);

	(void)unused;
	return !error && info->sid && info->winsize &&
	       (rows != info->winsize->ws_row || columns != info->winsize->ws_col);
}

void tty_tell_size(const struct image_store *store, pid_t pid)
{
	auto_info TtyInfoEntry *info = NULL;
	auto_error struct error *error = find_info(store, has_other_size, 0, &info);

	if (error || !info)
		return;
	wait_until_asleep(pid);
	kill(pid, SIGWINCH);
}

const struct file_ops tty_ops = {
	.name = "tty",
	.type = FD_TYPES__TTY,
	.recognizes = tty_recognizes,
	.check = tty_check,
	.stays = tty_stays,
	.save = tty_save,
	.entry_stays = tty_entry_stays,
	.preflight = tty_preflight,
	.restore = tty_restore,
	.finish = tty_finish,
	.resume = tty_resume,
};
