//! The C face of ERMFS: `libermfs.so`, `libermfs.a` and, by cbindgen, `include/ermfs.h`.
//!
//! Promises: every function named `ermfs_NAME` takes, returns and sets in errno what its POSIX namesake
//! does. It translates between C's types and the engine's and does nothing else; what a call means is
//! decided in `ermfs-core`. The documentation of the functions is the header's, so it speaks C.

// The contract of the pointers is C's, the same for every function, and stands in the header's opening words.
#![allow(clippy::missing_safety_doc)]
// C's names are C's.
#![allow(non_camel_case_types)]

mod boundary;

pub mod descriptors;
pub mod directory;
pub mod export;
pub mod files;
pub mod filesystem;
pub mod metadata;
pub mod names;
pub mod stream;
pub mod view;
pub mod xattr;
