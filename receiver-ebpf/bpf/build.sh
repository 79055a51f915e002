#!/bin/sh
# Builds tracepoint.bpf.o from the sources beside it. The same compiler gives the same bytes in any directory.
# --check builds to a temporary file instead and fails if the committed object differs.
set -eu
cd "$(dirname "$0")"

CLANG=${CLANG:-clang-19}
STRIP=${STRIP:-llvm-strip-19}

build() {
    "$CLANG" -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Werror \
        -I"/usr/include/$(uname -m)-linux-gnu" \
        -fdebug-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
        -c tracepoint.bpf.c -o "$1"
    # Drops DWARF; the BTF that the loader needs stays.
    "$STRIP" -g "$1"
}

if [ "${1:-}" = --check ]; then
    temporary=$(mktemp)
    trap 'rm -f "$temporary"' EXIT
    build "$temporary"
    if ! cmp tracepoint.bpf.o "$temporary"; then
        echo "bpf/tracepoint.bpf.o is not what its sources build: run bpf/build.sh and commit the result" >&2
        exit 1
    fi
else
    build tracepoint.bpf.o
fi
