/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objects/pty_queue.h"
#include "util/alloc.h"
#include "util/clock.h"

enum {
	BYTES_MAX = 1 << 20,
	LINE_BYTES = 4096,      /* at most */
	CANONICAL_BYTES = 2048, /* half of what fits: behind more, something may wait that hasn't been processed */
	PIECE_BYTES = 1024,     /* of the input that we wait for the echo of: the kernel keeps 4,096 bytes of that */
	WAIT_NS = 1000000000,   /* for a worker of the kernel */
	LOOK_AGAIN_US = 20,
	STEADY_US = 50,
};

/* ---- Small things ---- */

static bool has_event(int fd, short event)
{
	struct pollfd polled = {.fd = fd, .events = event};

	return poll(&polled, 1, 0) == 1 && (polled.revents & event);
}

/* Until it has it. */
static bool gets_event(int fd, short event)
{
	struct pollfd polled = {.fd = fd, .events = event};

	return poll(&polled, 1, WAIT_NS / 1000000) == 1 && (polled.revents & event);
}

static int waiting_bytes(int fd)
{
	int bytes = 0;

	return ioctl(fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

/* ---- What was taken ---- */

struct error *pty_bytes_size(const struct pty_bytes *bytes, size_t *ret_size)
{
	struct stat stat;

	*ret_size = 0;
	if (fstat(bytes->file, &stat) < 0)
		return error_new(errno, "fstat of what was in a terminal");
	*ret_size = (size_t)stat.st_size;
	return NULL;
}

static struct error *done_bytes_of(const struct pty_bytes *bytes, size_t *ret_done)
{
	off_t done = lseek(bytes->file, 0, SEEK_CUR);

	*ret_done = (size_t)done;
	return done < 0 ? error_new(errno, "lseek in what was in a terminal") : NULL;
}

/* From the pipe into the file. */
static struct error *settle(const struct pty_bytes *bytes)
{
	while (waiting_bytes(bytes->pipe[0]) > 0) {
		size_t size_bytes = 0;

		TRY(pty_bytes_size(bytes, &size_bytes));
		off_t at = (off_t)size_bytes;
		if (splice(bytes->pipe[0], NULL, bytes->file, &at, BYTES_MAX, 0) < 0)
			return error_new(errno, "splice into memory");
	}
	return NULL;
}

static struct error *take_bytes(int from, const struct pty_bytes *bytes, size_t size_bytes, ssize_t *ret_taken)
{
	*ret_taken = splice(from, NULL, bytes->pipe[1], NULL, size_bytes, SPLICE_F_NONBLOCK);
	return *ret_taken < 0 ? error_new(errno, "splice from a terminal") : settle(bytes);
}

struct error *pty_bytes_read(const struct pty_bytes *bytes, uint8_t **ret_bytes, size_t *ret_size)
{
	TRY(pty_bytes_size(bytes, ret_size));
	auto_free uint8_t *copy = xalloc(*ret_size + 1);
	if (pread(bytes->file, copy, *ret_size, 0) != (ssize_t)*ret_size)
		return error_new(EIO, "%zu bytes of a terminal", *ret_size);
	*ret_bytes = take(copy);
	return NULL;
}

struct error *pty_bytes_fill(const struct pty_bytes *bytes, const uint8_t *from, size_t size_bytes)
{
	if (size_bytes > BYTES_MAX)
		return error_new(EBADMSG, "%zu bytes of a terminal", size_bytes);
	if (size_bytes > 0 && pwrite(bytes->file, from, size_bytes, 0) != (ssize_t)size_bytes)
		return error_new(errno, "write %zu bytes of a terminal", size_bytes);
	return NULL;
}

/* The same when a worker of the kernel has come to its end with it. */
static int steady_bytes(int fd)
{
	int before = -1;
	int bytes = waiting_bytes(fd);

	while (bytes > 0 && bytes != before) {
		before = bytes;
		usleep(STEADY_US);
		bytes = waiting_bytes(fd);
	}
	return bytes;
}

bool pty_is_canonical(const struct pty_state *state)
{
	return (state->termios.c_lflag & (ICANON | EXTPROC)) == ICANON;
}

/* ---- Settings ---- */

static struct error *read_settings(int master, struct pty_state *state)
{
	if (ioctl(master, TCGETS2, &state->termios) < 0 || ioctl(master, TIOCGLCKTRMIOS, &state->locked) < 0 ||
	    ioctl(master, TIOCGPKT, &state->is_packet) < 0 || ioctl(master, TIOCGPTLCK, &state->is_locked) < 0)
		return error_new(errno, "settings of a pseudoterminal");
	return NULL;
}

static struct error *set_termios(const struct pty *pty, const struct termios2 *termios)
{
	return ioctl(pty->master, TCSETS2, termios) < 0 ? error_new(errno, "TCSETS2") : NULL;
}

/* What is locked can't be set. Seldom any is, and setting it takes CAP_SYS_ADMIN. */
static struct error *set_locked(const struct pty *pty, bool is_locked)
{
	static const struct termios none;

	if (memcmp(&pty->state->locked, &none, sizeof(none)) == 0)
		return NULL;
	return ioctl(pty->master, TIOCSLCKTRMIOS, is_locked ? &pty->state->locked : &none) < 0
	               ? error_new(errno, "TIOCSLCKTRMIOS")
	               : NULL;
}

/* Nothing is done to bytes that pass, but for what these flags say. */
static struct termios2 plain_termios(const struct pty_state *state, tcflag_t flags)
{
	struct termios2 termios = state->termios;

	termios.c_iflag = 0;
	termios.c_oflag = 0;
	termios.c_lflag = flags;
	memset(termios.c_cc, 0, sizeof(termios.c_cc));
	termios.c_cc[VMIN] = 1;
	return termios;
}

static struct error *set_plain(const struct pty *pty, tcflag_t flags)
{
	struct termios2 termios = plain_termios(pty->state, flags);

	return set_termios(pty, &termios);
}

/* Turning one of them on or off loses the ends of lines. */
static tcflag_t mode_flags(const struct pty_state *state)
{
	return state->termios.c_lflag & (ICANON | EXTPROC);
}

static struct error *set_packet(const struct pty *pty, int is_packet)
{
	return ioctl(pty->master, TIOCPKT, &is_packet) < 0 ? error_new(errno, "TIOCPKT") : NULL;
}

/* ---- Our own slave ---- */

static struct error *set_lock(const struct pty *pty, int is_locked)
{
	return ioctl(pty->master, TIOCSPTLCK, &is_locked) < 0 ? error_new(errno, "TIOCSPTLCK") : NULL;
}

static struct error *open_slave(struct pty *pty)
{
	TRY(set_lock(pty, 0));
	pty->slave = ioctl(pty->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	return pty->slave < 0 ? error_new(errno, "TIOCGPTPEER") : NULL;
}

static struct error *close_slave(struct pty *pty)
{
	if (pty->slave >= 0 && pty->state->slave == PTY_SLAVE_UNOPENED) {
		TRY(set_lock(pty, 1));
		auto_fd int refused = ioctl(pty->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (refused >= 0)
			return error_new(0, "a locked pseudoterminal could be opened");
	}
	if (pty->slave >= 0)
		close(take(pty->slave));
	return set_lock(pty, pty->state->is_locked);
}

/* The master sees a hangup when the last of its slaves is closed. */
static struct error *find_slave_state(struct pty *pty)
{
	struct stat node;

	pty->state->slave = has_event(pty->master, POLLHUP) ? PTY_SLAVE_CLOSED : PTY_SLAVE_OPEN;
	TRY(open_slave(pty));
	if (fstat(pty->slave, &node) < 0)
		return error_new(errno, "fstat of a slave");
	pty->state->uid = node.st_uid;
	pty->state->gid = node.st_gid;
	pty->state->mode = node.st_mode & 07777;
	if (pty->state->slave == PTY_SLAVE_CLOSED)
		return NULL;
	close(take(pty->slave));
	if (has_event(pty->master, POLLHUP))
		pty->state->slave = PTY_SLAVE_UNOPENED;
	return open_slave(pty);
}

/* ---- Taking ---- */

/* poll(2) of a terminal from which nothing can be read yet waits until what was written to it has been processed. */
static struct error *drain(int from, const struct pty_bytes *to)
{
	TRY(settle(to));
	while (has_event(from, POLLIN)) {
		int waiting = waiting_bytes(from);
		ssize_t taken;

		if (waiting == 0)
			return NULL;
		TRY(take_bytes(from, to, (size_t)waiting, &taken));
	}
	return NULL;
}

/* Nothing is in the way any more of what can't be written to. One that tcflow(3) has stopped is started by it, one that was
 * stopped by a key isn't. */
static void find_output_state(const struct pty *pty)
{
	struct pty_state *state = pty->state;

	if (state->output != PTY_OUTPUT_FLOWS || has_event(pty->slave, POLLOUT))
		return;
	state->output = PTY_OUTPUT_STOPPED_BY_KEY;
	ioctl(pty->slave, TCXONC, TCOON);
	if (has_event(pty->slave, POLLOUT))
		state->output = PTY_OUTPUT_STOPPED;
}

static void find_master_state(const struct pty *pty)
{
	if (pty->state->is_master_stopped || has_event(pty->master, POLLOUT))
		return;
	pty->state->is_master_stopped = true;
	ioctl(pty->master, TCXONC, TCOON);
}

static size_t line_bytes(const struct pty_state *state)
{
	size_t bytes = 0;

	for (size_t i = 0; i < state->line_count; i++)
		bytes += state->lines[i].bytes;
	return bytes;
}

static struct error *take_lines(struct pty *pty)
{
	struct pty_state *state = pty->state;
	size_t size_bytes;

	/* Whoever began this may have died between a line and the note of it. */
	TRY(settle(&pty->input));
	TRY(pty_bytes_size(&pty->input, &size_bytes));
	if (size_bytes > line_bytes(state) && state->line_count < PTY_LINES_MAX)
		state->lines[state->line_count++].bytes = (uint16_t)(size_bytes - line_bytes(state));
	while (has_event(pty->slave, POLLIN)) {
		ssize_t taken;

		if (state->line_count == PTY_LINES_MAX)
			return error_new(EAGAIN, "more than %d lines wait in a pseudoterminal", PTY_LINES_MAX);
		TRY(take_bytes(pty->slave, &pty->input, LINE_BYTES, &taken));
		state->lines[state->line_count++].bytes = (uint16_t)taken;
	}
	return NULL;
}

/* poll(2) waits for what is being processed only where less can be read than the program wants: VMIN. */
static struct error *count_processed(const struct pty *pty)
{
	struct pty_state *state = pty->state;
	struct termios2 termios = state->termios;

	termios.c_cc[VMIN] = UINT8_MAX;
	termios.c_cc[VTIME] = 0;
	TRY(set_termios(pty, &termios));
	has_event(pty->slave, POLLIN);
	if (state->processed_bytes == 0)
		state->processed_bytes = (uint32_t)steady_bytes(pty->slave);
	return set_plain(pty, mode_flags(state));
}

static bool ends_line(const struct pty_state *state, uint8_t byte)
{
	return byte == '\n' || (byte && (byte == state->termios.c_cc[VEOL] || byte == state->termios.c_cc[VEOL2]));
}

static struct error *mark_lines(const struct pty *pty)
{
	struct pty_state *state = pty->state;
	auto_free uint8_t *bytes = NULL;
	size_t size_bytes;
	size_t at = 0;

	TRY(pty_bytes_read(&pty->input, &bytes, &size_bytes));
	for (size_t i = 0; i < state->line_count; i++) {
		at += state->lines[i].bytes;
		state->lines[i].is_marked = state->lines[i].bytes == 0 || !ends_line(state, bytes[at - 1]);
	}
	return NULL;
}

static struct error *finish_taking(struct pty *pty)
{
	struct pty_state *state = pty->state;

	if (state->stage == PTY_TAKING_LINES) {
		TRY(set_packet(pty, 0));
		TRY(drain(pty->master, &pty->output));
		find_output_state(pty);
		TRY(set_locked(pty, false));
		TRY(pty_is_canonical(state) ? take_lines(pty) : count_processed(pty));
		state->stage = PTY_TAKING_REST;
	}
	if (pty_is_canonical(state))
		TRY(set_plain(pty, 0));
	TRY(drain(pty->slave, &pty->input));
	/* An echo may have been held up. */
	TRY(drain(pty->master, &pty->output));
	find_master_state(pty);
	TRY(mark_lines(pty));
	state->stage = PTY_TAKEN;
	return NULL;
}

static struct error *refuse_lines(int bytes)
{
	return error_hint(error_new(EAGAIN, "%d bytes in lines wait to be read from a pseudoterminal", bytes),
	                  "Try again when the program has read some of them");
}

struct error *pty_take(struct pty *pty)
{
	struct pty_state *state = pty->state;

	if (state->is_packet && has_event(pty->master, POLLPRI))
		return error_hint(error_new(EAGAIN, "a packet that tells of a change waits to be read (TIOCPKT)"),
		                  "Try again when the program has read it");
	TRY(find_slave_state(pty));
	int bytes = pty_is_canonical(state) ? steady_bytes(pty->slave) : 0;
	if (bytes > CANONICAL_BYTES)
		return error_join(refuse_lines(bytes), close_slave(pty));
	state->processed_bytes = 0;
	state->stage = PTY_TAKING_LINES;
	return finish_taking(pty);
}

/* ---- Putting back ---- */

static bool occurs(const uint8_t *bytes, size_t size_bytes, uint8_t byte)
{
	for (size_t i = 0; i < size_bytes; i++)
		if (bytes[i] == byte)
			return true;
	return false;
}

/* Some byte that isn't in a line stands for the end of file; that of the program, if it can be. */
static struct error *find_mark(const struct pty *pty, cc_t *ret_mark)
{
	const struct pty_state *state = pty->state;
	auto_free uint8_t *bytes = NULL;
	size_t size_bytes;

	TRY(pty_bytes_read(&pty->input, &bytes, &size_bytes));
	*ret_mark = state->termios.c_cc[VEOF];
	for (int tries = 0; tries < UINT8_MAX + 1; tries++, (*ret_mark)++)
		if (*ret_mark && !ends_line(state, *ret_mark) && !occurs(bytes, size_bytes, *ret_mark))
			return NULL;
	return error_new(ENOTSUP, "all 256 bytes occur in the lines that wait in a pseudoterminal");
}

static struct error *put_bytes(const struct pty_bytes *from, int to, size_t size_bytes)
{
	while (size_bytes > 0) {
		ssize_t put = gets_event(to, POLLOUT) ? sendfile(to, from->file, NULL, size_bytes) : 0;

		if (put < 0 && errno != EAGAIN)
			return error_new(errno, "sendfile into a terminal");
		if (put == 0)
			return error_new(ETIMEDOUT, "a pseudoterminal takes no more");
		size_bytes -= put > 0 ? (size_t)put : 0;
	}
	return NULL;
}

static struct error *put_rest(const struct pty_bytes *from, int to)
{
	size_t size_bytes;
	size_t done;

	TRY(pty_bytes_size(from, &size_bytes));
	TRY(done_bytes_of(from, &done));
	return put_bytes(from, to, size_bytes > done ? size_bytes - done : 0);
}

/* Each byte comes back as its echo, once it has been processed. */
static struct error *read_echo(const struct pty *pty, size_t size_bytes)
{
	uint8_t echo[PIECE_BYTES];

	while (size_bytes > 0) {
		ssize_t count = gets_event(pty->master, POLLIN) ? read(pty->master, echo, size_bytes) : -1;

		if (count <= 0)
			return error_new(ETIMEDOUT, "the echo of what was put into a pseudoterminal");
		size_bytes -= (size_t)count;
	}
	return NULL;
}

static struct error *put_echoed(const struct pty *pty, size_t size_bytes)
{
	while (size_bytes > 0) {
		size_t piece_bytes = size_bytes < PIECE_BYTES ? size_bytes : PIECE_BYTES;

		TRY(put_bytes(&pty->input, pty->master, piece_bytes));
		TRY(read_echo(pty, piece_bytes));
		size_bytes -= piece_bytes;
	}
	return NULL;
}

static struct error *put_line(const struct pty *pty, const struct pty_line *line, size_t done_bytes, cc_t mark)
{
	TRY(put_echoed(pty, line->bytes - done_bytes));
	if (line->is_marked && write(pty->master, &mark, 1) != 1)
		return error_new(errno, "end of file into a pseudoterminal");
	return NULL;
}

static struct error *put_lines(const struct pty *pty)
{
	const struct pty_state *state = pty->state;
	struct termios2 termios = plain_termios(state, ICANON | ECHO | (state->termios.c_lflag & IEXTEN));
	size_t size_bytes;
	size_t done;
	cc_t mark;

	TRY(find_mark(pty, &mark));
	TRY(pty_bytes_size(&pty->input, &size_bytes));
	TRY(done_bytes_of(&pty->input, &done));
	termios.c_cc[VEOF] = mark;
	termios.c_cc[VEOL] = state->termios.c_cc[VEOL];
	termios.c_cc[VEOL2] = state->termios.c_cc[VEOL2];
	TRY(set_termios(pty, &termios));
	size_t rest_bytes = size_bytes - line_bytes(state);
	for (size_t i = 0; i < state->line_count; i++) {
		const struct pty_line *line = &state->lines[i];
		size_t before = done < line->bytes ? done : line->bytes;

		done -= before;
		if (before == 0 || before < line->bytes)
			TRY(put_line(pty, line, before, mark));
	}
	return put_echoed(pty, rest_bytes - done);
}

static struct error *put_processed(const struct pty *pty)
{
	int processed_bytes = (int)pty->state->processed_bytes;
	uint64_t end_ns = clock_now_ns() + WAIT_NS;
	size_t done;

	TRY(set_plain(pty, mode_flags(pty->state)));
	TRY(done_bytes_of(&pty->input, &done));
	if ((size_t)processed_bytes > done)
		TRY(put_bytes(&pty->input, pty->master, (size_t)processed_bytes - done));
	while (waiting_bytes(pty->slave) < processed_bytes) {
		if (clock_now_ns() > end_ns)
			return error_new(ETIMEDOUT, "what was put into a pseudoterminal");
		usleep(LOOK_AGAIN_US);
	}
	return NULL;
}

/* A stop that a key has made is ended by a key only, not by tcflow(3). */
static struct error *stop_output(const struct pty *pty)
{
	const struct pty_state *state = pty->state;
	const cc_t *stop = &state->termios.c_cc[VSTOP];
	uint64_t end_ns = clock_now_ns() + WAIT_NS;

	if (state->output == PTY_OUTPUT_FLOWS)
		return NULL;
	if (state->output == PTY_OUTPUT_STOPPED || !(state->termios.c_iflag & IXON) || !*stop) {
		if (ioctl(pty->slave, TCXONC, TCOOFF) < 0)
			return error_new(errno, "TCOOFF");
		return NULL;
	}
	if (write(pty->master, stop, 1) != 1)
		return error_new(errno, "stop character into a pseudoterminal");
	while (has_event(pty->slave, POLLOUT)) {
		if (clock_now_ns() > end_ns)
			return error_new(ETIMEDOUT, "output of a pseudoterminal goes on");
		usleep(LOOK_AGAIN_US);
	}
	return NULL;
}

/* Of a new one: that of a program's has them already. */
static struct error *put_owner(const struct pty *pty)
{
	const struct pty_state *state = pty->state;
	struct stat node;

	if (fstat(pty->slave, &node) < 0)
		return error_new(errno, "fstat of a slave");
	if (state->is_exclusive && ioctl(pty->slave, TIOCEXCL) < 0)
		return error_new(errno, "TIOCEXCL");
	if (state->mode == 0)
		return NULL;
	if ((node.st_uid != state->uid || node.st_gid != state->gid) && fchown(pty->slave, state->uid, state->gid) < 0)
		return error_new(errno, "owner of a pseudoterminal");
	if ((node.st_mode & 07777) != state->mode && fchmod(pty->slave, state->mode) < 0)
		return error_new(errno, "mode of a pseudoterminal");
	return NULL;
}

static struct error *put_settings(const struct pty *pty)
{
	TRY(put_owner(pty));
	TRY(set_termios(pty, &pty->state->termios));
	TRY(stop_output(pty));
	TRY(put_rest(&pty->input, pty->master));
	if (pty->state->is_master_stopped && ioctl(pty->master, TCXONC, TCOOFF) < 0)
		return error_new(errno, "TCOOFF of a master");
	TRY(set_locked(pty, true));
	return set_packet(pty, pty->state->is_packet);
}

static struct error *put_all(struct pty *pty)
{
	TRY(set_locked(pty, false));
	TRY(pty_is_canonical(pty->state) ? put_lines(pty) : put_processed(pty));
	TRY(put_rest(&pty->output, pty->slave));
	TRY(put_settings(pty));
	pty->state->stage = PTY_AS_IT_WAS;
	return NULL;
}

struct error *pty_put_back(struct pty *pty)
{
	struct error *error = NULL;

	if (pty->slave < 0)
		TRY(open_slave(pty));
	if (pty->state->stage != PTY_TAKEN)
		error = finish_taking(pty);
	error = error_join(error, put_all(pty));
	return error_join(error, close_slave(pty));
}

/* ---- One of them ---- */

static struct error *open_bytes(struct pty_bytes *bytes)
{
	bytes->file = memfd_create("godwit-pty", MFD_CLOEXEC);
	if (bytes->file < 0 || pipe2(bytes->pipe, O_CLOEXEC) < 0)
		return error_new(errno, "room for what is in a terminal");
	return NULL;
}

static void close_bytes(const struct pty_bytes *bytes)
{
	const int fds[] = {bytes->file, bytes->pipe[0], bytes->pipe[1]};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

struct pty *pty_empty(void)
{
	static const struct pty empty = {
		.master = -1, .slave = -1, .input = {-1, {-1, -1}}, .output = {-1, {-1, -1}}, .state_fd = -1};
	struct pty *pty = xalloc(sizeof(*pty));

	*pty = empty;
	return pty;
}

struct error *pty_map(struct pty *pty)
{
	void *mapped = mmap(NULL, sizeof(*pty->state), PROT_READ | PROT_WRITE, MAP_SHARED, pty->state_fd, 0);

	if (mapped == MAP_FAILED)
		return error_new(errno, "mmap for a terminal");
	pty->state = mapped;
	return NULL;
}

struct error *pty_open(int master, struct pty **ret_pty)
{
	auto_pty struct pty *pty = pty_empty();

	pty->master = master;
	pty->state_fd = memfd_create("godwit-pty-state", MFD_CLOEXEC);
	if (pty->state_fd < 0 || ftruncate(pty->state_fd, sizeof(*pty->state)) < 0)
		return error_new(errno, "memory for a terminal");
	TRY(pty_map(pty));
	TRY(open_bytes(&pty->input));
	TRY(open_bytes(&pty->output));
	TRY(read_settings(master, pty->state));
	*ret_pty = take(pty);
	return NULL;
}

void pty_free(struct pty *pty)
{
	const int fds[] = {pty ? pty->master : -1, pty ? pty->slave : -1, pty ? pty->state_fd : -1};

	if (!pty)
		return;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	close_bytes(&pty->input);
	close_bytes(&pty->output);
	if (pty->state)
		munmap(pty->state, sizeof(*pty->state));
	free(pty);
}
