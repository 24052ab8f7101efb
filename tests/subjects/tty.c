/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Two pseudoterminals whose ends are both here, the second one with the lower number free beneath it: settings, packet
 * mode, lock, an end twice. And one that has hung up. Terminals from outside: tests/terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "subject.h"

enum { ROWS = 47, COLUMNS = 131, X_PIXELS = 1310, END_OF_FILE = 0x1c, ERASE = 0x02 };

struct pair {
	int master, slave, again;
	char name[64];
};

static void open_pair(const struct subject *subject, struct pair *pair)
{
	pair->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (pair->master < 0 || grantpt(pair->master) < 0 || unlockpt(pair->master) < 0 ||
	    ptsname_r(pair->master, pair->name, sizeof(pair->name)) != 0)
		subject_fail(subject, "new pseudoterminal: %s", strerror(errno));
	pair->slave = open(pair->name, O_RDWR | O_NOCTTY);
	pair->again = open(pair->name, O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (pair->slave < 0 || pair->again < 0)
		subject_fail(subject, "open %s: %s", pair->name, strerror(errno));
}

static struct termios odd_termios(const struct subject *subject, int fd)
{
	struct termios termios;

	if (tcgetattr(fd, &termios) < 0)
		subject_fail(subject, "tcgetattr: %s", strerror(errno));
	termios.c_iflag = IGNPAR | IXOFF | INLCR;
	termios.c_oflag = 0;
	termios.c_lflag = ECHOK | IEXTEN;
	termios.c_cc[VEOF] = END_OF_FILE;
	termios.c_cc[VERASE] = ERASE;
	termios.c_cc[VMIN] = 1;
	termios.c_cc[VTIME] = 0;
	cfsetispeed(&termios, B4800);
	cfsetospeed(&termios, B4800);
	return termios;
}

static void check_termios(const struct subject *subject, int fd, const struct termios *expected)
{
	struct termios now;

	if (tcgetattr(fd, &now) < 0)
		subject_fail(subject, "tcgetattr: %s", strerror(errno));
	if (now.c_iflag != expected->c_iflag || now.c_oflag != expected->c_oflag || now.c_cflag != expected->c_cflag ||
	    now.c_lflag != expected->c_lflag || memcmp(now.c_cc, expected->c_cc, sizeof(now.c_cc)) != 0 ||
	    cfgetospeed(&now) != cfgetospeed(expected))
		subject_fail(subject, "termios: iflag %o, lflag %o, VEOF %d, speed %u", now.c_iflag, now.c_lflag,
		             now.c_cc[VEOF], cfgetospeed(&now));
}

static void check_size(const struct subject *subject, int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_row != ROWS || size.ws_col != COLUMNS ||
	    size.ws_xpixel != X_PIXELS)
		subject_fail(subject, "window of %u x %u", size.ws_row, size.ws_col);
}

static void check_passes(const struct subject *subject, int from, int to, const char *expected, size_t length,
                         const char *what)
{
	struct pollfd readable = {.fd = to, .events = POLLIN};
	char text[64] = "";

	if (write(from, "pelican", sizeof("pelican") - 1) != sizeof("pelican") - 1)
		subject_fail(subject, "%s: write: %s", what, strerror(errno));
	if (poll(&readable, 1, 10000) != 1)
		subject_fail(subject, "%s: nothing came", what);
	ssize_t n = read(to, text, sizeof(text) - 1);
	if (n != (ssize_t)length || memcmp(text, expected, length) != 0)
		subject_fail(subject, "%s: %zd bytes: %s", what, n, text);
}

static int flag_of(const struct subject *subject, int fd, unsigned long call, const char *what)
{
	int value = -1;

	if (ioctl(fd, call, &value) < 0)
		subject_fail(subject, "%s: %s", what, strerror(errno));
	return value;
}

static void check_name(const struct subject *subject, const struct pair *pair)
{
	char name[64];

	if (ptsname_r(pair->master, name, sizeof(name)) != 0 || strcmp(name, pair->name) != 0)
		subject_fail(subject, "%s by now, not %s", name, pair->name);
	if (ttyname_r(pair->again, name, sizeof(name)) != 0 || strcmp(name, pair->name) != 0)
		subject_fail(subject, "the other end is %s by now, not %s", name, pair->name);
}

static void check_hung_up(const struct subject *subject, int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 0)
		subject_fail(subject, "hung up: something to read");
	if (write(fd, "x", 1) != -1 || errno != EIO)
		subject_fail(subject, "hung up: written to");
	if (!(fcntl(fd, F_GETFL) & O_NONBLOCK))
		subject_fail(subject, "hung up: O_NONBLOCK is gone");
}

int main(int argc, char **argv)
{
	static const struct winsize size = {.ws_row = ROWS, .ws_col = COLUMNS, .ws_xpixel = X_PIXELS};
	struct subject subject = subject_begin(argc, argv);
	struct pair hung_up;
	struct pair odd;
	struct pair packets;
	const int on = 1;

	open_pair(&subject, &hung_up);
	open_pair(&subject, &odd);
	open_pair(&subject, &packets);
	close(hung_up.slave);
	close(hung_up.master);

	struct termios termios = odd_termios(&subject, odd.slave);
	if (tcsetattr(odd.slave, TCSANOW, &termios) < 0 || ioctl(odd.slave, TIOCSWINSZ, &size) < 0)
		subject_fail(&subject, "settings: %s", strerror(errno));
	if (tcgetattr(odd.slave, &termios) < 0)
		subject_fail(&subject, "tcgetattr: %s", strerror(errno));
	int twin = dup(odd.master);
	if (ioctl(packets.master, TIOCPKT, &on) < 0 || ioctl(packets.master, TIOCSPTLCK, &on) < 0 ||
	    ioctl(packets.slave, TIOCEXCL) < 0)
		subject_fail(&subject, "packet mode and lock: %s", strerror(errno));

	subject_ready(&subject);

	static const char text[] = "pelican";
	check_name(&subject, &odd);
	check_name(&subject, &packets);
	check_termios(&subject, odd.slave, &termios);
	check_size(&subject, odd.again);
	check_size(&subject, twin);
	check_passes(&subject, twin, odd.again, text, sizeof(text) - 1, "from the master");
	check_passes(&subject, odd.slave, odd.master, text, sizeof(text) - 1, "from the slave");
	if (!flag_of(&subject, packets.master, TIOCGPKT, "packet mode") ||
	    !flag_of(&subject, packets.master, TIOCGPTLCK, "lock") ||
	    !flag_of(&subject, packets.slave, TIOCGEXCL, "exclusive"))
		subject_fail(&subject, "packet mode, lock or exclusive use is gone");
	if (flag_of(&subject, odd.master, TIOCGPKT, "packet mode"))
		subject_fail(&subject, "packet mode where there was none");
	/* A packet begins with a byte that says what it is: ioctl_tty(2). */
	static const char packet[] = "\0pelican";
	check_passes(&subject, packets.slave, packets.master, packet, sizeof(packet) - 1, "a packet");
	check_hung_up(&subject, hung_up.again);
	return subject_pass(&subject);
}
