#!/usr/bin/env bash
# Installs into a folder of its own, builds and runs programs that know nothing but pkg-config's answers, looks at what the
# libraries show, and uninstalls. Called by `make install-check`.
#
#   MAKE=make CHECK_CC=cc tests/install/check.sh FOLDER
#
# FOLDER is emptied first. What needs a tool that is not there is skipped, with the name of its Debian package. The compiler is not
# called CC, because crates are built anew when that comes into the environment.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source=$PWD
folder=$1
root=$folder/root
outside=$folder/outside
prefix=/opt/ermfs
# Not where it is by default, so that both are looked after.
libdir=$prefix/lib64

fail() {
    printf 'install-check: %s\n' "$*" >&2
    exit 1
}
has() {
    command -v "$1" > /dev/null && return
    echo "SKIPPED: $3 (needs $1; Debian: apt-get install $2)"
    return 1
}
# same WHAT EXPECTED FOUND
same() {
    diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") >&2 || fail "$1 differ (< expected, > found)"
    echo "ok: $1"
}
installed() { (cd "$root" && find . ! -type d -printf '%p %l\n' | sort); }
make_it() { "${MAKE:-make}" --no-print-directory DESTDIR="$root" PREFIX="$prefix" LIBDIR="$libdir" "$@" > /dev/null; }

rm -rf "$folder"
mkdir -p "$root$prefix/include" "$root$libdir/pkgconfig" "$outside"
# What others have put there.
echo 'of others' | tee "$root$prefix/include/other.h" > "$root$libdir/pkgconfig/other.pc"
before=$(installed)
make_it install
everything=$(installed)
# As root often has it: cargo cannot be found, and what was built is installed.
make_it uninstall
CARGO_TARGET_DIR=$(dirname "$folder") make_it CARGO=/nonexistent/cargo install
same 'files installed without cargo' "$everything" "$(installed)"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
golden=$(sort ermfs-ffi-tests/golden/symbols.txt)
names=$(sed 's/@.*//' <<< "$golden" | sort)

check_libraries() {
    same 'symbols of libermfs.so' "$golden" \
        "$(nm -D --defined-only --format=posix "$root$libdir/libermfs.so" | awk '$2 != "A" { print $1 }' | sort)"
    same 'global symbols of libermfs.a' "$names" \
        "$(nm --extern-only --defined-only --format=posix "$root$libdir/libermfs.a" | awk 'NF > 1 { print $1 }' | sort)"
    local dynamic
    dynamic=$(readelf -dW "$root$libdir/libermfs.so")
    grep -q 'SONAME.*\[libermfs\.so\.0\]' <<< "$dynamic" || fail 'the soname is not libermfs.so.0'
    grep -q 'FLAGS_1.*NODELETE' <<< "$dynamic" || fail 'libermfs.so can be unloaded'
    echo 'ok: soname, nodelete'
}

# build NAME COMPILER SOURCE OPTION...: compiles with what pkg-config says, and runs in both modes.
build() {
    local name=$1 compiler=$2 file=$3 pkg_config=(pkg-config) flags
    shift 3
    [[ " $* " != *' -static'* ]] || pkg_config+=(--static)
    flags=$("${pkg_config[@]}" --cflags --libs ermfs)
    # shellcheck disable=SC2086 # the flags are words
    (cd "$outside" && "$compiler" "$@" -Wall -Wextra -o "$name" "$source/$file" $flags) || fail "$name cannot be built"
    for lockless in 0 1; do
        ERMFS_LOCKLESS=$lockless LD_LIBRARY_PATH=$root$libdir timeout 300 "$outside/$name" > "$outside/$name.out" 2>&1 \
            || { cat "$outside/$name.out" >&2; fail "$name, ERMFS_LOCKLESS=$lockless: exit code $?"; }
    done
    if [[ $name = *static* ]] && readelf -dW "$outside/$name" | grep -q NEEDED; then
        fail "$name needs a shared library"
    fi
    echo "ok: $name, ERMFS_LOCKLESS=0 and 1"
}

check_programs() {
    has pkg-config pkg-config 'programs built by pkg-config' || return 0
    export PKG_CONFIG_LIBDIR=$root$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
    same 'version by pkg-config' "$version" "$(pkg-config --modversion ermfs)"
    same 'flags by pkg-config' "-I$root$prefix/include -L$root$libdir -lermfs -lpthread -lm -ldl" \
        "$(pkg-config --static --cflags --libs ermfs | sed 's/ *$//')"
    # Moved as a whole, without a sysroot.
    same 'flags of a moved prefix' "-I$root$prefix/include -L$root$libdir -lermfs" \
        "$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --define-prefix --cflags --libs ermfs | sed 's/ *$//')"
    local c=(-std=c99 -pedantic -Werror) cc=${CHECK_CC:-cc}
    build c_shared "$cc" tests/install/program.c "${c[@]}"
    build c_static "$cc" tests/install/program.c "${c[@]}" -static
    build c_static_pie "$cc" tests/install/program.c "${c[@]}" -static-pie
    # What of the library leans most on the C library: forks, with threads; all calls; descriptors of the kernel.
    for test in fork posix ermfd; do
        build "test_${test}_static" "$cc" "c_tests/test_$test.c" -std=gnu11 -static -pthread
    done
    has g++ g++ 'a program in C++' || return 0
    build cxx_shared g++ tests/install/program.cc -std=c++11 -pedantic -Werror -pthread
    build cxx_static g++ tests/install/program.cc -std=c++11 -pedantic -Werror -pthread -static
}

check_manual() {
    local page said missing=
    for name in $names; do
        grep -q "[^a-z_]$name(" man/ermfs.3 || missing="$missing $name"
        grep -qx '\.so man3/ermfs\.3' "$root$prefix/share/man/man3/$name.3" || fail "$name.3 leads nowhere"
    done
    [ -z "$missing" ] || fail "man/ermfs.3 does not tell of$missing"
    echo 'ok: ermfs(3) tells of every function'
    for page in "$root$prefix/share/man"/man[138]/{ermfs.1,ermfs.3,mount.ermfs.8}; do
        [ -e "$page" ] || continue
        if has groff groff "warnings about $(basename "$page")"; then
            said=$(groff -man -Tutf8 -ww -z "$page" 2>&1)
            [ -z "$said" ] || fail "$said"
            echo "ok: $(basename "$page"), by groff"
        fi
        if has mandoc mandoc "mandoc's opinion of $(basename "$page")"; then
            mandoc -Tlint -Wwarning "$page" >&2 || fail "mandoc does not like $(basename "$page")"
            echo "ok: $(basename "$page"), by mandoc"
        fi
    done
}

check_libraries
check_programs
check_manual
make_it uninstall
same 'files after make uninstall' "$before" "$(installed)"
echo 'make install-check: all passed'
