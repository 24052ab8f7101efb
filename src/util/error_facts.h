/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What error.h promises, in words for clang's analyzer, which doesn't see into error.c nor heeds returns_nonnull
 * (clang 14). Without them it takes any error for success, and goes on with results that were never set. No compiler
 * reads this file.
 */
#pragma once

static inline struct error *error_never_null(struct error *error)
{
	if (!error)
		__builtin_unreachable();
	return error;
}

/* NULL stays NULL, and nothing else becomes NULL: what says more about an error is the error itself. */
static inline struct error *error_said(struct error *error, const struct error *nothing)
{
	(void)nothing;
	return error;
}

#define error_new(...) error_never_null((error_new)(__VA_ARGS__))
#define error_wrap(error, ...) error_said(error, (error_wrap)(NULL, __VA_ARGS__))
#define error_hint(error, ...) error_said(error, (error_hint)(NULL, __VA_ARGS__))
