/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The kernel's own struct termios2, which libc's <termios.h> hides: that one has other sizes. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "objects/tty_info.h"

/* Major numbers of Documentation/admin-guide/devices.txt. */
enum { MAJOR_TTY = 4, MAJOR_TTY_AUX = 5, MAJOR_SLAVES = 136, MAJOR_SLAVES_END = 144, FIRST_SERIAL = 64 };

enum tty_kind tty_kind_of(dev_t device)
{
	unsigned number = minor(device);

	if (major(device) >= MAJOR_SLAVES && major(device) < MAJOR_SLAVES_END)
		return TTY_SLAVE;
	if (major(device) == MAJOR_TTY)
		return number < FIRST_SERIAL ? TTY_VIRTUAL : TTY_SERIAL;
	if (major(device) != MAJOR_TTY_AUX)
		return TTY_NONE;
	return number == 0 ? TTY_CURRENT : number == 1 ? TTY_CONSOLE : number == 2 ? TTY_MASTER : TTY_NONE;
}

unsigned tty_slave_index(dev_t device)
{
	return (major(device) - MAJOR_SLAVES) * 256 + minor(device);
}

dev_t tty_slave_device(unsigned index)
{
	return makedev(MAJOR_SLAVES + (index >> 8), index & 0xff);
}

bool tty_is_hung_up(int fd)
{
	struct termios2 termios;

	return ioctl(fd, TCGETS2, &termios) < 0 && errno == EIO;
}

/* ---- Reading ---- */

static void put_characters(TermiosEntry *entry, const cc_t *characters, uint32_t *room)
{
	for (size_t i = 0; i < NCCS; i++)
		room[i] = characters[i];
	entry->n_c_cc = NCCS;
	entry->c_cc = room;
}

static struct error *read_termios(int fd, struct tty_settings *settings)
{
	TermiosEntry *entry = &settings->termios;
	TermiosEntry *locked_entry = &settings->termios_locked;
	struct termios2 termios;
	struct termios locked;

	if (ioctl(fd, TCGETS2, &termios) < 0)
		return error_new(errno, "TCGETS2");
	if (ioctl(fd, TIOCGLCKTRMIOS, &locked) < 0)
		return error_new(errno, "TIOCGLCKTRMIOS");
	entry->c_iflag = termios.c_iflag;
	entry->c_oflag = termios.c_oflag;
	entry->c_cflag = termios.c_cflag;
	entry->c_lflag = termios.c_lflag;
	entry->c_line = termios.c_line;
	entry->c_ispeed = termios.c_ispeed;
	entry->c_ospeed = termios.c_ospeed;
	put_characters(entry, termios.c_cc, settings->characters[0]);
	locked_entry->c_iflag = locked.c_iflag;
	locked_entry->c_oflag = locked.c_oflag;
	locked_entry->c_cflag = locked.c_cflag;
	locked_entry->c_lflag = locked.c_lflag;
	locked_entry->c_line = locked.c_line;
	put_characters(locked_entry, locked.c_cc, settings->characters[1]);
	settings->info.termios = entry;
	settings->info.termios_locked = locked_entry;
	return NULL;
}

static struct error *read_window(int fd, struct tty_settings *settings)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return error_new(errno, "TIOCGWINSZ");
	settings->window.ws_row = size.ws_row;
	settings->window.ws_col = size.ws_col;
	settings->window.ws_xpixel = size.ws_xpixel;
	settings->window.ws_ypixel = size.ws_ypixel;
	settings->info.winsize = &settings->window;
	return NULL;
}

static struct error *read_master(int fd, struct tty_settings *settings)
{
	int is_packet;
	int is_locked;

	if (ioctl(fd, TIOCGPKT, &is_packet) < 0 || ioctl(fd, TIOCGPTLCK, &is_locked) < 0)
		return error_new(errno, "TIOCGPKT, TIOCGPTLCK");
	settings->info.packet_mode = is_packet;
	settings->info.locked = is_locked;
	return NULL;
}

static TtyType type_of(enum tty_kind kind)
{
	switch (kind) {
	case TTY_MASTER:
	case TTY_SLAVE:
		return TTY_TYPE__PTY;
	case TTY_CURRENT:
		return TTY_TYPE__CTTY;
	case TTY_VIRTUAL:
		return TTY_TYPE__VT;
	case TTY_SERIAL:
		return TTY_TYPE__SERIAL;
	case TTY_CONSOLE:
		return TTY_TYPE__CONSOLE;
	case TTY_NONE:
		break;
	}
	return TTY_TYPE__UNKNOWN;
}

struct error *tty_settings_read(int fd, enum tty_kind kind, bool is_hung_up, struct tty_settings *settings)
{
	int is_exclusive;

	tty_info_entry__init(&settings->info);
	termios_entry__init(&settings->termios);
	termios_entry__init(&settings->termios_locked);
	winsize_entry__init(&settings->window);
	tty_pty_entry__init(&settings->pty);
	settings->info.type = type_of(kind);
	if (settings->info.type == TTY_TYPE__PTY)
		settings->info.pty = &settings->pty;
	if (is_hung_up)
		return NULL;
	if (ioctl(fd, TIOCGEXCL, &is_exclusive) < 0)
		return error_new(errno, "TIOCGEXCL");
	settings->info.exclusive = is_exclusive;
	TRY(read_termios(fd, settings));
	TRY(read_window(fd, settings));
	return kind == TTY_MASTER ? read_master(fd, settings) : NULL;
}

struct error *tty_window_read(int fd, uint32_t *ret_rows, uint32_t *ret_columns)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return error_new(errno, "TIOCGWINSZ");
	*ret_rows = size.ws_row;
	*ret_columns = size.ws_col;
	return NULL;
}

/* ---- Setting ---- */

static struct error *take_characters(const TermiosEntry *entry, cc_t *characters)
{
	if (entry->n_c_cc != NCCS)
		return error_new(EBADMSG, "%zu control characters of a terminal", entry->n_c_cc);
	for (size_t i = 0; i < NCCS; i++)
		characters[i] = (cc_t)entry->c_cc[i];
	return NULL;
}

static struct error *set_termios(int fd, const TermiosEntry *entry)
{
	struct termios2 termios = {
		.c_iflag = entry->c_iflag,
		.c_oflag = entry->c_oflag,
		.c_cflag = entry->c_cflag,
		.c_lflag = entry->c_lflag,
		.c_line = (cc_t)entry->c_line,
		.c_ispeed = entry->c_ispeed,
		.c_ospeed = entry->c_ospeed,
	};

	TRY(take_characters(entry, termios.c_cc));
	return ioctl(fd, TCSETS2, &termios) < 0 ? error_new(errno, "TCSETS2") : NULL;
}

static struct error *set_locked(int fd, const TermiosEntry *entry)
{
	struct termios termios = {
		.c_iflag = entry->c_iflag,
		.c_oflag = entry->c_oflag,
		.c_cflag = entry->c_cflag,
		.c_lflag = entry->c_lflag,
		.c_line = (cc_t)entry->c_line,
	};

	static const struct termios none;

	TRY(take_characters(entry, termios.c_cc));
	/* Seldom any is, and setting it takes CAP_SYS_ADMIN. */
	if (memcmp(&termios, &none, sizeof(termios)) == 0)
		return NULL;
	return ioctl(fd, TIOCSLCKTRMIOS, &termios) < 0 ? error_new(errno, "TIOCSLCKTRMIOS") : NULL;
}

struct error *tty_settings_apply(int fd, const TtyInfoEntry *info, bool is_size_set)
{
	if (info->termios)
		TRY(set_termios(fd, info->termios));
	/* What is locked can't be set any more. */
	if (info->termios_locked)
		TRY(set_locked(fd, info->termios_locked));
	if (!info->winsize || !is_size_set)
		return NULL;
	struct winsize size = {
		.ws_row = (unsigned short)info->winsize->ws_row,
		.ws_col = (unsigned short)info->winsize->ws_col,
		.ws_xpixel = (unsigned short)info->winsize->ws_xpixel,
		.ws_ypixel = (unsigned short)info->winsize->ws_ypixel,
	};
	return ioctl(fd, TIOCSWINSZ, &size) < 0 ? error_new(errno, "TIOCSWINSZ") : NULL;
}
