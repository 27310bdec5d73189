#!/usr/bin/env bash
# Builds an archive with cargo, links libermfs.so from it and makes libermfs.a of it; checks what both of them export.
#
#   scripts/build-library.sh [--release | --debug | --checked] [--lockless]
#
# --debug: with debug assertions, not optimised; --checked: for Valgrind, with debug assertions, symbols, and memory that belongs to
# nobody poisoned; --lockless: of the lockless mode where nothing says otherwise.
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
        --checked) profile=checked ;;
        --lockless) features=(--features lockless) ;;
        *)
            say "unknown argument $argument; it takes --release, --debug or --checked, and --lockless"
            exit 2
            ;;
    esac
done
for tool in cargo cc nm ld ar objcopy awk flock; do
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
# Only GNU ld dissolves groups of sections, which is needed below.
linker=ld
command -v ld.bfd > /dev/null && linker=ld.bfd
exec 9< "$out"
flock 9

options=(--package ermfs-capi --lib --message-format json-render-diagnostics "${features[@]}")
case $profile in
    release) options+=(--release) ;;
    checked)
        options+=(--profile checked --features check-memory)
        # crossbeam-epoch frees in smaller portions, so sooner.
        export RUSTFLAGS="${RUSTFLAGS-} --cfg crossbeam_sanitize"
        ;;
esac
# cargo's closing line is not worth telling; everything else it says is.
built=$({ cargo build "${options[@]}" 2>&1 >&3 3>&- 9<&- | sed -u '/^ *Finished /d' >&2; } 3>&1)
archive=$(grep -o '"[^"]*/libermfs\.a"' <<< "$built" | tail -n 1 | tr -d '"')
[ -f "$archive" ] || {
    say "cargo built no libermfs.a"
    exit 1
}

# compare FILE LISTED EXPORTED
compare() {
    local difference
    difference=$(diff <(printf '%s\n' "$2") <(printf '%s\n' "$3")) || {
        say "$1 does not export what $golden lists (< listed, > exported):"
        printf '%s\n' "$difference" >&2
        exit 1
    }
}

# Runs a tool of binutils, which is heard only when it fails: an LTO plugin of another version complains of bitcode.
quietly() {
    "$@" 2> "$out/said.new" || {
        cat "$out/said.new" >&2
        exit 1
    }
}

map=ermfs-capi/ermfs.map
golden=ermfs-ffi-tests/golden/symbols.txt
stamp=$(stat -c '%n %i %s %Y' "$archive"; cksum "$map" "$golden" scripts/build-library.sh; cc -dumpfullversion)
if [ ! -e "$out/libermfs.so" ] || [ "$stamp" != "$(cat "$out/stamp" 2> /dev/null)" ]; then
    rm -f "$out/stamp"
    trap 'rm -f "$out"/*.new "$out"/*.o' EXIT
    strip=()
    [ "$profile" != release ] || strip=(-Wl,--strip-all)
    cc -shared -o "$out/libermfs.so.0.new" \
        -Wl,--whole-archive "$archive" -Wl,--no-whole-archive \
        -Wl,--version-script="$map" -Wl,-soname,libermfs.so.0 \
        -Wl,-z,defs -Wl,-z,nodelete -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack \
        -Wl,--gc-sections -Wl,-O1 -Wl,--as-needed "${strip[@]}" \
        -lgcc_s -lpthread -lm -ldl -lc

    # The version script is worth nothing unchecked: it has been ignored silently before.
    exported=$(nm -D --defined-only --format=posix "$out/libermfs.so.0.new" | awk '$2 != "A" { print $1 }' | sort)
    compare libermfs.so "$(sort "$golden")" "$exported"

    # The static library is one object in which all else is local: a program may have another library in Rust, with another
    # standard library, or another libdeflate. Groups of sections are dissolved, because a linker would keep one of two groups
    # of a name, and leave the other library's local references dangling (the pointer to rust_eh_personality is one). The
    # bitcode that std's objects hold is for rustc only, and has binutils with an LTO plugin read nothing else.
    names=$(sed 's/@.*//' "$golden" | sort)
    printf '%s\n' "$names" > "$out/names.new"
    strip=()
    [ "$profile" = debug ] || strip=(--strip-debug)
    mapfile -t wanted < <(sed 's/^/--undefined=/' "$out/names.new")
    quietly "$linker" -r --force-group-allocation "${wanted[@]}" -o "$out/all.o" "$archive"
    quietly objcopy --remove-section=.llvmbc --remove-section=.llvmcmd "${strip[@]}" \
        --keep-global-symbols="$out/names.new" "$out/all.o" "$out/ermfs.o"
    rm -f "$out/libermfs.a.new"
    ar rcD "$out/libermfs.a.new" "$out/ermfs.o"
    exported=$(nm --extern-only --defined-only --format=posix "$out/libermfs.a.new" | awk 'NF > 1 { print $1 }' | sort)
    compare libermfs.a "$names" "$exported"

    mv -f "$out/libermfs.a.new" "$out/libermfs.a"
    mv -f "$out/libermfs.so.0.new" "$out/libermfs.so.0"
    ln -sfn libermfs.so.0 "$out/libermfs.so"
    printf '%s\n' "$stamp" > "$out/stamp"
fi
printf '%s\n' "$out/libermfs.so"
