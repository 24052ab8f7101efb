/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Open files of no kind that can be carried: what each is, in words that its program's user knows. */
#pragma once

#include "objects/objects.h"

/* Why it can't be carried, and what to do about it. Never NULL. Not while the program is frozen. */
MUST_USE struct error *refuse_file(const struct open_file *file);
