/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Where the stub's pages are mapped: see stub_pages.h. */
#include "task/stub_pages.h"

/* Between where programs are and where their libraries are: 0x3a60d4170000, 0x3b60d4170000 … */
uint64_t stub_pages_address(unsigned place)
{
	return (((UINT64_C(0x3a) + place) << 8 | 0x60) << 32) | 0xd4170000;
}

static bool is_place(uint64_t address)
{
	for (unsigned i = 0; i < STUB_PLACES; i++)
		if (stub_pages_address(i) == address)
			return true;
	return false;
}

bool stub_pages_is_data_address(uint64_t address)
{
	return is_place(address - STUB_DATA_OFFSET);
}
