//! Requests to Valgrind's memcheck, of which the processor by itself sees a few rotations that come to nothing.
//!
//! Written here, because the crates for it ask for libclang or for Valgrind's headers where this is built. The sequences
//! and numbers are Valgrind's interface (valgrind.h, memcheck.h) and do not change. On processors that are not named below
//! Valgrind is told nothing.

/// memcheck's requests: its two letters, then a number.
const MAKE_NO_ACCESS: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;
const MAKE_UNDEFINED: usize = MAKE_NO_ACCESS + 1;
const MAKE_DEFINED: usize = MAKE_NO_ACCESS + 2;

pub(super) fn no_access(start: *const u8, len: usize) {
    request(MAKE_NO_ACCESS, start, len);
}

pub(super) fn undefined(start: *const u8, len: usize) {
    request(MAKE_UNDEFINED, start, len);
}

pub(super) fn defined(start: *const u8, len: usize) {
    request(MAKE_DEFINED, start, len);
}

fn request(number: usize, start: *const u8, len: usize) {
    let arguments = [number, start.addr(), len, 0, 0, 0];
    ask(&arguments);
}

#[cfg(target_arch = "x86_64")]
fn ask(arguments: &[usize; 6]) {
    // SAFETY: rotations by 128 bits together and an exchange of a register with itself; under Valgrind the six words are read
    // and rdx is written. Flags are written, and the memory is taken for touched, so that no access moves over this.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0usize => _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
fn ask(arguments: &[usize; 6]) {
    // SAFETY: rotations by 128 bits together and an or of a register with itself; under Valgrind the six words are read and
    // x3 is written. The memory is taken for touched, so that no access moves over this.
    unsafe {
        core::arch::asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") arguments.as_ptr(),
            inout("x3") 0usize => _,
            options(nostack),
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn ask(_arguments: &[usize; 6]) {}
