/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What is under way in a pseudoterminal, both ways: taken out while the program stands still, to be looked at, and put
 * back at once; or put into a new one.
 *
 * Terminals have no way to look without taking. So that nothing is lost whenever we die, the bytes go from the terminal
 * through a pipe into a file in memory by splice(2), and back by sendfile(2), which a signal can't cut in two: a byte is in
 * one place or the other, and the file's position tells what is back already. Whoever has these and the state (all can be
 * shared with the keeper: pty_hold.h) finishes what was begun.
 *
 * Input, on its way to the slave, is of two kinds: what went through the line discipline, line by line (canonical mode
 * of termios(3)) or not, with the beginning of a line that isn't complete; and behind it, if that has filled its 4,095
 * bytes, what hasn't. The first goes back past the line discipline, so that it isn't echoed and sends no signal again; the
 * second goes back to where that waits for it.
 *
 * Traps. Turning ICANON off makes one line of all lines, so they are read one by one before. A line that ends by VEOF
 * (end of file, typed) has no byte for that. Turning IXON off starts output that a key has stopped. A slave that nobody
 * has opened yet may be opened and closed without its master seeing a hangup, if the last open(2) before that is
 * refused: the kernel doesn't hang up by the close of a slave in error.
 */
#pragma once

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"
#include "util/own.h"

enum pty_slave { PTY_SLAVE_OPEN, PTY_SLAVE_CLOSED, PTY_SLAVE_UNOPENED };
enum pty_output { PTY_OUTPUT_FLOWS, PTY_OUTPUT_STOPPED, PTY_OUTPUT_STOPPED_BY_KEY };
enum pty_stage { PTY_AS_IT_WAS, PTY_TAKING_LINES, PTY_TAKING_REST, PTY_TAKEN };

enum { PTY_LINES_MAX = 4096 };

struct pty_line {
	uint16_t bytes;
	bool is_marked; /* its end is no byte of it: VEOF was typed */
};

/* No pointers: it may be in memory shared with another process. */
struct pty_state {
	enum pty_stage stage;
	struct termios2 termios;
	struct termios locked; /* TIOCGLCKTRMIOS */
	int is_packet, is_locked;
	enum pty_slave slave;
	enum pty_output output;   /* of the slave: tcflow(3), ^S */
	bool is_master_stopped;   /* the master's output: tcflow(3) */
	uint32_t uid, gid, mode;  /* of the slave's node; mode 0: not known */
	bool is_exclusive;        /* the slave is to be: TIOCEXCL */
	uint32_t processed_bytes; /* of input, not canonical */
	uint32_t line_count;
	struct pty_line lines[PTY_LINES_MAX];
};

/* What was taken from one end. All owned. */
struct pty_bytes {
	int file; /* its position: so much is back */
	int pipe[2];
};

struct pty {
	int master; /* owned */
	int slave;  /* owned; -1: not opened by us */
	struct pty_bytes input, output;
	struct pty_state *state; /* owned: mapped */
	int state_fd;            /* owned: of the memory that it is in */
};

/* Of a new or a program's pseudoterminal, with nothing taken, and the settings in its state. master is taken over. */
MUST_USE struct error *pty_open(int master, struct pty **ret_pty);
struct pty *pty_empty(void); /* all its descriptors are -1 */
void pty_free(struct pty *pty);
DEFINE_OWNED(struct pty *, pty_free)
#define auto_pty AUTO(pty_free)

/* Maps the state that state_fd is the memory of. */
MUST_USE struct error *pty_map(struct pty *pty);

/* Has it been taken apart, and not put together yet? */
static inline bool pty_is_apart(const struct pty *pty)
{
	return pty->state->stage != PTY_AS_IT_WAS;
}

/* Lines are told from each other. */
bool pty_is_canonical(const struct pty_state *state);

/* Takes everything out. Whatever fails in it, or dies: pty_put_back(), which finishes it first. */
MUST_USE struct error *pty_take(struct pty *pty);
MUST_USE struct error *pty_put_back(struct pty *pty);

/* How many bytes were taken. */
MUST_USE struct error *pty_bytes_size(const struct pty_bytes *bytes, size_t *ret_size);

/* A copy of them. Never NULL; the caller frees. */
MUST_USE struct error *pty_bytes_read(const struct pty_bytes *bytes, uint8_t **ret_bytes, size_t *ret_size);

/* The same from outside, for pty_put_back() of a new one, which makes its state that of pty->state. Input is told by
 * processed_bytes and lines. */
MUST_USE struct error *pty_bytes_fill(const struct pty_bytes *bytes, const uint8_t *from, size_t size_bytes);
