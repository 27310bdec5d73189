//! See `ermfs_fuzz::calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ermfs_fuzz::calls(input));
