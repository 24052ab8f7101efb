/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A file in a directory of images that somebody else has made. */
#pragma once

#include <stddef.h>

#include "util/error.h"

/* Opens it for reading. A link, a FIFO, a device in its place is an error. The caller closes *ret_fd. */
MUST_USE struct error *input_open(int dir_fd, const char *name, int *ret_fd, size_t *ret_size_bytes);
