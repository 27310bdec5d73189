//! See `ermfs_fuzz::member`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ermfs_fuzz::member(input));
