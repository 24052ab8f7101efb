/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>

#include "objects/outlet.h"
#include "objects/output_file.h"
#include "objects/services.h"

struct error *outlet_check(uint32_t kind, const char *path)
{
	switch (kind) {
	case OUTLET_STREAM:
	case OUTLET_DATAGRAM:
		return service_check(path, (int)kind);
	case OUTLET_FILE:
		return output_file_check(path);
	default:
		return error_new(EBADMSG, "outlet of kind %u", kind);
	}
}
