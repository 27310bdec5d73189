//! Linearizability: what many threads see of names, contents and descriptors is what one thread could have seen.
//!
//! Thousands of short histories are recorded and each is searched for an order of one thread that explains it
//! (`checker`). What is atomic and what is not, the models say: `names` (a small tree), `contents` (a file around the
//! boundary of two blocks), `descriptors` (a few numbers). Each module also plants histories that must be refused.
//! With the feature `failpoints` the threads are made to lose the processor in the middle of calls.

mod checker;
mod contents;
mod descriptors;
mod names;
mod recorder;
