/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Network namespaces for a test that moves between them itself: a, b and client, on one bridge in a fourth.
 *
 *     wire_open(&wire);             makes them; they go when the process does
 *     wire_enter(&wire, WIRE_A);    the calling thread is there now: sockets it opens belong to a
 *
 * The interface is eth0 everywhere: 10.99.0.1 (a), .2 (b), .3 (client), and fd99::1 ….
 */
#pragma once

enum wire_host { WIRE_BRIDGE, WIRE_A, WIRE_B, WIRE_CLIENT, WIRE_HOST_COUNT };

struct wire {
	int namespaces[WIRE_HOST_COUNT];
};

/* Exits with 77 (meson: skipped) if we are not root. */
void wire_open(struct wire *wire);
void wire_enter(const struct wire *wire, enum wire_host host);

/* Runs a shell command in the namespace where we are; a failure ends the test. */
void wire_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Microseconds of CLOCK_MONOTONIC. */
double wire_now_us(void);
