//! Tests of the locks.
