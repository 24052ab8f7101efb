#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run make.sh restore|migrate [TIMES]: make -j4 compiles a project: processes come and go all the time, and talk by the
# job server's pipe.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

files=${FILES:-200}
folder=$SHARED/build
mkdir "$folder"
for n in $(seq "$files"); do
	printf '#include <stdio.h>\n#include <stdlib.h>\nint f%d(int x);\nint f%d(int x) { printf("%%d\\n", x); return abs(x) + %d; }\n' "$n" "$n" "$n" >"$folder/f$n.c"
done
{
	echo '#include <stdio.h>'
	for n in $(seq "$files"); do echo "int f$n(int x);"; done
	echo 'int main(void) { int sum = 0;'
	for n in $(seq "$files"); do echo "sum += f$n(0);"; done
	printf '%s\n' 'fprintf(stderr, "%d\n", sum); return 0; }'
} >"$folder/main.c"
{
	echo "OBJECTS = main.o $(seq -f 'f%g.o' "$files" | tr '\n' ' ')"
	printf 'program: $(OBJECTS)\n\tcc -o $@ $(OBJECTS)\n%%.o: %%.c\n\tcc -pipe -O1 -c -o $@ $<; sleep 0.05\n'
} >"$folder/Makefile"
take_address
pid=$(start_on a "$SHARED/make.log" make -C "$folder" -j4)
has_objects() { [ "$(find "$folder" -name '*.o' | wc -l)" -ge "$1" ]; }
wait_until has_objects 5
carry_service "$@"
wait_gone "$host" "$pid"
! grep -i error "$SHARED/make.log" || fail "make failed"
[ "$("$folder/program" 2>&1 >/dev/null)" = $((files * (files + 1) / 2)) ] || fail "the program is wrong"
