/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

void wire_run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	int status = system(command); /* NOLINT(cert-env33-c,concurrency-mt-unsafe): our own words, one thread */
	if (status != 0)
		errx(1, "status %#x: %s", status, command);
}

void wire_enter(const struct wire *wire, enum wire_host host)
{
	if (setns(wire->namespaces[host], CLONE_NEWNET) != 0)
		err(1, "setns");
}

static int make_namespace(void)
{
	if (unshare(CLONE_NEWNET) != 0)
		err(1, "unshare(CLONE_NEWNET)");
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "open(/proc/thread-self/ns/net)");
	wire_run("ip link set lo up");
	return fd;
}

/* Addresses are usable at once: no duplicate address detection. */
static void connect_host(const struct wire *wire, enum wire_host host)
{
	wire_enter(wire, WIRE_BRIDGE);
	wire_run("ip link add port%d type veth peer name eth0 netns /proc/%d/fd/%d && ip link set port%d master "
	         "bridge0 up",
	         host, getpid(), wire->namespaces[host], host);
	wire_enter(wire, host);
	wire_run("ip link set eth0 up && ip address add 10.99.0.%d/24 dev eth0 && "
	         "ip address add fd99::%d/64 dev eth0 nodad",
	         host, host);
}

void wire_open(struct wire *wire)
{
	if (geteuid() != 0)
		exit(77); /* NOLINT(concurrency-mt-unsafe): no threads yet */
	for (enum wire_host host = 0; host < WIRE_HOST_COUNT; host++)
		wire->namespaces[host] = make_namespace();
	wire_enter(wire, WIRE_BRIDGE);
	wire_run("ip link add name bridge0 type bridge && ip link set bridge0 up");
	for (enum wire_host host = WIRE_A; host < WIRE_HOST_COUNT; host++)
		connect_host(wire, host);
}

double wire_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}
