#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# run.sh FUZZER SEEDS SAMPLES DIR: the fuzzer (tests/NAME-fuzz of a build with -Dfuzz=true) for FUZZ_SECONDS, from what
# write-seeds (SEEDS) and write-samples (SAMPLES) make, from what earlier runs have found and left in DIR/NAME, and from
# what has made it fail once (corpus/NAME, if there is any). What makes it fail is named and stays in DIR.
set -eu
fuzzer=$1 seeds=$2 samples=$3 dir=$4
target=$(basename "$fuzzer" -fuzz)
corpus=$(dirname "$0")/corpus/$target
found=$dir/$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$found" "$work/seeds"
"$seeds" "$target" "$work/seeds"
if [ "$target" = pagemap ]; then
	"$samples" "$work"
	mv "$work"/pagemap-* "$work/seeds/"
fi
[ ! -d "$corpus" ] || cp "$corpus"/* "$work/seeds/"

# No honest input needs much memory at once; what asks for it must be refused, and soon.
ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256 "$fuzzer" -max_total_time="${FUZZ_SECONDS:-5}" \
	-rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$dir/$target-" "$found" "$work/seeds" >"$dir/$target.log" 2>&1 || {
	tail -n 40 "$dir/$target.log"
	exit 1
}
echo "$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$target.log") executions," \
	"$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "$dir/$target.log" | tail -n 1) features"
