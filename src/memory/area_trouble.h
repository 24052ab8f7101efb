/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What makes an area one that can't be carried, and what the user may do about it. */
#pragma once

enum area_trouble {
	AREA_TROUBLE_NONE,
	AREA_TROUBLE_DEVICE,
	AREA_TROUBLE_SHADOW_STACK,
	AREA_TROUBLE_USERFAULTFD,
	AREA_TROUBLE_UPROBES,
	AREA_TROUBLE_KERNEL,
	AREA_TROUBLE_SHARED_UNKNOWN,
	AREA_TROUBLE_IO_URING,
	AREA_TROUBLE_PERF,
	AREA_TROUBLE_DESCRIPTOR,
	AREA_TROUBLE_PACKET,
	AREA_TROUBLE_AIO,
	AREA_TROUBLE_SECRET,
	AREA_TROUBLE_KEY,
};

struct area;
struct error;

/* NULL: there is none. */
struct error *area_trouble_error(const struct area *area);
