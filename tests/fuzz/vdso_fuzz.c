/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The vDSO of this kernel with changes in it: each is an offset of two bytes, and a byte. */
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "fuzz.h"
#include "memory/vdso_code.h"
#include "util/alloc.h"
#include "util/error.h"
#include "util/own.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	enum { CODE_BYTES = 8192, CHANGE_BYTES = 3 };
	auto_free uint8_t *changed = xalloc(CODE_BYTES);
	const struct vdso_code program = {.bytes = changed, .size_bytes = CODE_BYTES, .address = 0x7000};
	const struct vdso_code kernel = {
		.bytes = (uint8_t *)getauxval(AT_SYSINFO_EHDR),
		.size_bytes = CODE_BYTES,
		.address = 0x9000,
	};

	if (!kernel.bytes)
		return 0;
	memcpy(changed, kernel.bytes, CODE_BYTES);
	for (size_t at = 0; at + CHANGE_BYTES <= size_bytes; at += CHANGE_BYTES)
		changed[(size_t)(bytes[at] << 8 | bytes[at + 1]) % CODE_BYTES] = bytes[at + 2];
	error_free(vdso_redirect(&program, &kernel));
	return 0;
}
