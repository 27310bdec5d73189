//! What the tests of ERMFS's C interface share.
//!
//! Promises one table of C functions ([`abi`]) that is filled either from the kernel's libc or from the built
//! `libermfs.so`, and an engine ([`differential`]) that runs the same random calls through two such tables and
//! compares everything a program could see. Owns no state. Never writes outside a tmpfs of its own.

pub mod abi;
pub mod differential;
