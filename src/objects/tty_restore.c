/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "objects/tty.h"
#include "objects/tty_entries.h"
#include "objects/tty_pair.h"
#include "objects/tty_restore.h"
#include "pstree.pb-c.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { ASLEEP_WAIT_MS = 200 };

bool tty_entry_stays(const FileEntry *entry, const struct restore_files *restore)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	enum tty_becomes becomes = TTY_BECOMES_HUNG_UP;
	auto_error struct error *error = tty_entry_of(entry, restore_store(restore), &info);

	if (!error)
		error = tty_entry_becomes(info, restore_store(restore), &becomes);
	return !error && becomes == TTY_BECOMES_OURS;
}

bool tty_is_of_session(const struct image_store *store)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	auto_error struct error *error = tty_entry_that_stayed(store, &info);

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

struct error *tty_preflight(const FileEntry *entry, struct restore_files *restore)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	enum tty_becomes becomes;

	TRY(tty_entry_of(entry, restore_store(restore), &info));
	TRY(tty_entry_becomes(info, restore_store(restore), &becomes));
	if (becomes == TTY_BECOMES_OURS)
		return check_own_terminal(info, restore_options(restore));
	return becomes == TTY_BECOMES_MASTER ? tty_pair_preflight(info) : NULL;
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

struct error *tty_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                          struct made_file *ret_made)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	uint32_t flags;
	enum tty_becomes becomes;
	int fd = -1;

	(void)batch;
	TRY(tty_entry_of(entry, restore_store(restore), &info));
	TRY(tty_entry_becomes(info, restore_store(restore), &becomes));
	flags = entry->tty->flags;
	switch (becomes) {
	case TTY_BECOMES_OURS:
		TRY(open_own(info, restore_options(restore), flags, &fd));
		break;
	case TTY_BECOMES_HUNG_UP:
		TRY(tty_pair_open_hung_up(flags, &fd));
		break;
	case TTY_BECOMES_MASTER:
		TRY(tty_pair_open_master(info, restore, &fd));
		break;
	case TTY_BECOMES_SLAVE:
		TRY(tty_pair_open_slave(info, flags, restore, &fd));
		break;
	case TTY_BECOMES_CURRENT:
		TRY(tty_pair_open_current(info, flags, restore, &fd));
		break;
	}
	*ret_made = (struct made_file){.local_fd = fd, .status_flags = flags, .owner = entry->tty->fown};
	return NULL;
}

struct error *tty_finish(const struct placed_file *file, struct restore_files *restore, struct process *task)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	enum tty_becomes becomes;

	(void)task;
	TRY(tty_entry_of(file->entry, restore_store(restore), &info));
	TRY(tty_entry_becomes(info, restore_store(restore), &becomes));
	return becomes == TTY_BECOMES_MASTER ? tty_pair_finish(info, restore) : NULL;
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
struct error *tty_resume(const FileEntry *entry, const struct image_store *store, int fd)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	enum tty_becomes becomes;
	sigset_t blocked;
	sigset_t before;

	TRY(tty_entry_of(entry, store, &info));
	TRY(tty_entry_becomes(info, store, &becomes));
	if (becomes != TTY_BECOMES_OURS)
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

static bool has_other_size(const TtyInfoEntry *info)
{
	uint32_t rows = 0;
	uint32_t columns = 0;
	auto_error struct error *error = tty_window_read(STDIN_FILENO, &rows, &columns);

	return !error && info->winsize && (rows != info->winsize->ws_row || columns != info->winsize->ws_col);
}

void tty_tell_size(const struct image_store *store, pid_t pid)
{
	auto_tty_entry TtyInfoEntry *info = NULL;
	auto_error struct error *error = tty_entry_that_stayed(store, &info);

	if (error || !info || !has_other_size(info))
		return;
	wait_until_asleep(pid);
	kill(pid, SIGWINCH);
}
