#!/usr/bin/env bash
# Builds libermfs.a with cargo and links libermfs.so from it; checks what the shared library exports.
#
#   scripts/build-library.sh [--release | --debug] [--lockless]
#
# --debug: with debug assertions, not optimised; --lockless: of the lockless mode where nothing says otherwise.
#
# The last line on standard output is the absolute path of libermfs.so. Beside it lie libermfs.so.0, which it points to, and
# libermfs.a. They go to <target directory>/ermfs/<profile>, where CARGO_TARGET_DIR is respected. Quiet when nothing has
# changed; two calls at once wait for each other.
set -euo pipefail
export LC_ALL=C

say() { printf 'build-library: %s\n' "$*" >&2; }

profile=release
features=()
for argument in "$@"; do
    case $argument in
        --release) profile=release ;;
        --debug) profile=debug ;;
        --lockless) features=(--features lockless) ;;
        *)
            say "unknown argument $argument; it takes --release or --debug, and --lockless"
            exit 2
            ;;
    esac
done
for tool in cargo cc nm awk flock; do
    command -v "$tool" > /dev/null || {
        say "needs $tool: install Rust (by rustup), gcc, binutils and util-linux"
        exit 1
    }
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
out=$target/ermfs/$profile
mkdir -p "$out"
exec 9< "$out"
flock 9

options=(--package ermfs-capi --lib --message-format json-render-diagnostics "${features[@]}")
[ "$profile" = debug ] || options+=(--release)
# cargo's closing line is not worth telling; everything else it says is.
built=$({ cargo build "${options[@]}" 2>&1 >&3 3>&- 9<&- | sed -u '/^ *Finished /d' >&2; } 3>&1)
archive=$(grep -o '"[^"]*/libermfs\.a"' <<< "$built" | tail -n 1 | tr -d '"')
[ -f "$archive" ] || {
    say "cargo built no libermfs.a"
    exit 1
}

map=ermfs-capi/ermfs.map
golden=ermfs-ffi-tests/golden/symbols.txt
stamp=$(stat -c '%n %i %s %Y' "$archive"; cksum "$map" "$golden" scripts/build-library.sh; cc -dumpfullversion)
if [ ! -e "$out/libermfs.so" ] || [ "$stamp" != "$(cat "$out/stamp" 2> /dev/null)" ]; then
    rm -f "$out/stamp"
    trap 'rm -f "$out/libermfs.so.0.new"' EXIT
    strip=()
    [ "$profile" = debug ] || strip=(-Wl,--strip-all)
    cc -shared -o "$out/libermfs.so.0.new" \
        -Wl,--whole-archive "$archive" -Wl,--no-whole-archive \
        -Wl,--version-script="$map" -Wl,-soname,libermfs.so.0 \
        -Wl,-z,defs -Wl,-z,nodelete -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack \
        -Wl,--gc-sections -Wl,-O1 -Wl,--as-needed "${strip[@]}" \
        -lgcc_s -lpthread -lm -ldl -lc

    # The version script is worth nothing unchecked: it has been ignored silently before.
    exported=$(nm -D --defined-only --format=posix "$out/libermfs.so.0.new" | awk '$2 != "A" { print $1 }' | sort)
    if ! difference=$(diff <(sort "$golden") - <<< "$exported"); then
        say "libermfs.so does not export what $golden lists (< listed, > exported):"
        printf '%s\n' "$difference" >&2
        exit 1
    fi
    ln -f "$archive" "$out/libermfs.a" 2> /dev/null || cp -f "$archive" "$out/libermfs.a"
    mv -f "$out/libermfs.so.0.new" "$out/libermfs.so.0"
    ln -sfn libermfs.so.0 "$out/libermfs.so"
    printf '%s\n' "$stamp" > "$out/stamp"
fi
printf '%s\n' "$out/libermfs.so"
