//! See `ermfs_fuzz::import_gzip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ermfs_fuzz::import_gzip(input));
