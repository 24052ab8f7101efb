/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include "cli/supervision.h"

void supervision_tell(const struct supervisor *supervisor, const char *advice, bool only_bad, struct report *report)
{
	report_text(report, "supervisor", supervisor->text);
	if (!supervisor->text || (only_bad && !supervisor->starts_again))
		return;
	fprintf(stderr, "%s: %s%s%s\n", supervisor->starts_again ? "warning" : "note", supervisor->text,
	        supervisor->starts_again ? ": " : "", supervisor->starts_again ? advice : "");
	log_line(report_log(report), LOG_PHASES, "%s", supervisor->text);
}
