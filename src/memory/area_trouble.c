/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>

#include "memory/areas.h"
#include "util/error.h"

static const struct {
	const char *what, *hint;
} troubles[] = {
	[AREA_TROUBLE_DEVICE] = {"memory of a device", "end what uses the device (graphics, DPDK, KVM …) first"},
	[AREA_TROUBLE_SHADOW_STACK] = {"a shadow stack",
                                       "start the program without: GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"},
	[AREA_TROUBLE_USERFAULTFD] = {"registered with a userfaultfd of the program's own",
                                      "move the program when it doesn't use it, or choose another garbage collector"},
	[AREA_TROUBLE_UPROBES] = {"uprobes: somebody traces this program",
                                  "end the tracer: bpftrace, perf probe --del, or what else has set the probe"},
	[AREA_TROUBLE_KERNEL] = {"an area that the kernel has made, of a kind that is not known",
                                 "it may need a newer godwit"},
	[AREA_TROUBLE_SHARED_UNKNOWN] = {"shared memory of a device or of an unknown kind",
                                         "end what uses the device (graphics …) first"},
	[AREA_TROUBLE_IO_URING] = {"a ring of io_uring(7)",
                                   "let the program use another way of I/O: most have an option for it, such as "
                                   "MariaDB --innodb-use-native-aio=0"},
	[AREA_TROUBLE_PERF] = {"a ring of perf_event_open(2)", "end the profiler that is inside the program"},
	[AREA_TROUBLE_DESCRIPTOR] = {"a mapping of a descriptor that is no file",
                                     "godwit-objects(7) lists what can be carried"},
	[AREA_TROUBLE_PACKET] = {"a ring of a packet socket", "end the capture of packets"},
	[AREA_TROUBLE_AIO] = {"a ring of io_setup(2)",
                              "let the program do without native AIO, for example MySQL by --innodb-use-native-aio=0"},
	[AREA_TROUBLE_SECRET] = {"secret memory (memfd_secret(2))", "nobody but the program can read it"},
	[AREA_TROUBLE_KEY] = {"memory with a protection key (pkey_mprotect(2))", "the program has to do without keys"},
};

struct error *area_trouble_error(const struct area *area)
{
	if (area->trouble == AREA_TROUBLE_NONE)
		return NULL;
	return error_hint(error_new(ENOTSUP, "memory %#" PRIx64 "-%#" PRIx64 "%s%s: %s", area->entry.start,
	                            area->entry.end, area->path ? " " : "", area->path ? area->path : "",
	                            troubles[area->trouble].what),
	                  "%s", troubles[area->trouble].hint);
}
