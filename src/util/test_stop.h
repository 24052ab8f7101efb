/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * For tests alone: ends or stops this process at a phase that has a name, so that the tests of crashes can reach each
 * one without depending on time.
 *
 * GODWIT_TEST_STOP_AT=PHASE in the environment ends the process there by SIGKILL, PHASE:STOP stops it by SIGSTOP. The
 * phases are listed in docs/handoff.md. Anybody who can set the environment of godwit can end it anyway.
 */
#pragma once

void test_stop(const char *phase);
