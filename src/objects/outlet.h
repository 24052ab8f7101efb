/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a file of a program is connected to anew where the program comes to: a service that every host has for itself, or
 * the file that the user named for standard streams. So it is asked there whether it can be had, before the program is
 * stopped for the first time.
 */
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "util/error.h"

enum outlet_kind { OUTLET_STREAM = SOCK_STREAM, OUTLET_DATAGRAM = SOCK_DGRAM, OUTLET_FILE = 100 };

struct outlet {
	enum outlet_kind kind;
	char *path; /* owned */
};

/* NULL, or why it can't be had here. kind and path are another host's word. */
MUST_USE struct error *outlet_check(uint32_t kind, const char *path);
