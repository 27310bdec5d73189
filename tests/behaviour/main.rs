//! What a user of the crate `ermfs` sees, by families of calls. What has to do with content runs under every policy of
//! compression, through [`common::for_each_policy`].

mod budgets;
mod common;
mod compression;
mod directories;
mod errors;
mod export;
mod files;
mod forks;
mod import;
mod locks;
mod metadata;
mod names;
mod offsets;
mod rename;
mod sparse;
mod threads;
mod views;
