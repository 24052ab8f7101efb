#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# run.sh SECONDS: each fuzz target for that long, from the corpus in the repository and what write-samples makes.
# BUILD is the build with -Dfuzz=true. What makes a target fail stays in $BUILD/fuzz/.
set -eu
seconds=$1
corpus=$(cd "$(dirname "$0")/corpus" && pwd)
cd "$BUILD"
mkdir -p fuzz/samples
rm -f fuzz/samples/*
tests/write-samples fuzz/samples

# Each image as image_fuzz takes it: name, length, what is behind its magic.
seed_images() {
	for file in fuzz/samples/*.img fuzz/samples/*.godwit; do
		name=$(basename "$file")
		case $name in pagemap* | pages* | sums* | '*'*) continue ;; esac
		magics=8
		case $name in inventory.img | *.godwit) magics=4 ;; esac
		printf '%s\n%d\n' "$name" $(($(stat -c %s "$file") - magics)) >"$1/$name"
		tail -c +$((magics + 1)) "$file" >>"$1/$name"
	done
}

passed=0 failed=0
for target in file_entry image pagemap stream vdso; do
	mkdir -p "fuzz/$target"
	[ ! -d "$corpus/$target" ] || cp "$corpus/$target"/* "fuzz/$target/"
	case $target in
	image) seed_images fuzz/image ;;
	pagemap) cp fuzz/samples/pagemap-* fuzz/pagemap/ ;;
	esac
	if "tests/$target-fuzz" -max_total_time="$seconds" -rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="fuzz/$target-" "fuzz/$target" >"fuzz/$target.log" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		tail -n 40 "fuzz/$target.log"
	fi
	printf '%s: %s executions, %s features\n' "$target" \
		"$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz/$target.log")" \
		"$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "fuzz/$target.log" | tail -n 1)"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
