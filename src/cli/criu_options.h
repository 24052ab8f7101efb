/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Options of CRIU that godwit doesn't have: whoever brings a command line from there is told what to do. */
#pragma once

/* name is without dashes, or a letter. NULL: CRIU has no such option, or godwit has it, too. */
const char *criu_option_advice(const char *name);
