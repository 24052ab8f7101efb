/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Programs of the host that are asked something. Never in a freeze. */
#pragma once

#include "util/error.h"

/*
 * Runs argv (found in PATH, ends with NULL) and waits for its end, at most limit_ms; then it is killed. What it writes is
 * in *ret_output (owned by the caller, ends with a 0 byte), errors too; ret_output may be NULL. An end with another status
 * than 0 is an error that has its last line. The error's errno is ENOENT where there is no such program.
 */
MUST_USE struct error *run_program(const char *const argv[], int limit_ms, char **ret_output);
