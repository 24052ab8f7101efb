/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "util/alloc.h"

/* Names of /proc/cpuinfo: Documentation/arch/x86/cpuinfo.rst of Linux. One that ends in * stands for all that begin so. */
static const char *const fpu_flags[] = {
	"fpu",    "fxsr",  "fxsr_opt",    "mmx",   "mmxext",   "sse",    "sse2",    "pni",        "ssse3", "sse4_1",
	"sse4_2", "sse4a", "misalignsse", "xsave", "xsaveopt", "xsavec", "xgetbv1", "xsaves",     "avx*",  "f16c",
	"fma",    "fma4",  "xop",         "amx*",  "pku",      "ospke",  "vaes",    "vpclmulqdq", "gfni",
};

static const char *const instruction_flags[] = {
	"tsc",     "cx8",       "cmov",   "clflush",    "clflushopt", "clwb",      "cldemote",  "syscall", "rdtscp",
	"cx16",    "movbe",     "popcnt", "abm",        "aes",        "pclmulqdq", "rdrand",    "rdseed",  "fsgsbase",
	"bmi1",    "bmi2",      "adx",    "erms",       "fsrm",       "fzrm",      "fsrs",      "fsrc",    "sha_ni",
	"sha512",  "sm3",       "sm4",    "rdpid",      "rdpru",      "movdiri",   "movdir64b", "enqcmd",  "serialize",
	"waitpkg", "mwaitx",    "3dnow*", "lahf_lm",    "hle",        "rtm",       "tbm",       "lwp",     "clzero",
	"ptwrite", "cmpccxadd", "raoint", "user_shstk",
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_in(const char *flag, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(list[i]);
		bool is_start = list[i][length - 1] == '*';

		if (is_start ? strncmp(flag, list[i], length - 1) == 0 : strcmp(flag, list[i]) == 0)
			return true;
	}
	return false;
}

bool cpu_flag_counts(const char *flag, unsigned caps)
{
	return (caps & CPU_CAP_CPU) || ((caps & CPU_CAP_FPU) && is_in(flag, fpu_flags, COUNT(fpu_flags))) ||
	       ((caps & CPU_CAP_INS) && is_in(flag, instruction_flags, COUNT(instruction_flags)));
}

void cpu_free(struct cpu *cpu)
{
	for (size_t i = 0; i < cpu->flag_count; i++)
		free(cpu->flags[i]);
	free(cpu->flags);
	free(cpu->model);
}

static void add_flags(struct cpu *cpu, char *text)
{
	char *rest = NULL;

	for (char *flag = strtok_r(text, " \n", &rest); flag; flag = strtok_r(NULL, " \n", &rest)) {
		cpu->flags = xrealloc(cpu->flags, (cpu->flag_count + 1) * sizeof(char *));
		cpu->flags[cpu->flag_count++] = xformat("%s", flag);
	}
}

static void add_to_model(struct cpu *cpu, const char *name, const char *value)
{
	static const char *const names[] = {"vendor_id", "cpu family", "model", "stepping"};

	for (size_t i = 0; i < COUNT(names); i++) {
		auto_free char *former = NULL;

		if (strncmp(name, names[i], strlen(names[i])) != 0 || strchr("\t ", name[strlen(names[i])]) == NULL ||
		    strncmp(name, "model name", strlen("model name")) == 0)
			continue;
		former = cpu->model;
		cpu->model =
			xformat("%s%s%.*s", former ? former : "", former ? " " : "", (int)strcspn(value, "\n"), value);
	}
}

/* All processors of a host are alike, as far as programs can rely on: the first one is read. */
struct error *cpu_read(struct cpu *ret_cpu)
{
	auto_file FILE *file = fopen("/proc/cpuinfo", "re");
	auto_free char *line = NULL;
	auto_cpu struct cpu cpu = {0};
	size_t room = 0;

	if (!file)
		return error_new(errno, "open(/proc/cpuinfo)");
	while (getline(&line, &room, file) > 1) {
		char *value = strstr(line, ": ");

		if (!value)
			continue;
		add_to_model(&cpu, line, value + 2);
		if (strncmp(line, "flags", strlen("flags")) == 0)
			add_flags(&cpu, value + 2);
	}
	*ret_cpu = cpu;
	cpu = (struct cpu){0};
	return NULL;
}
