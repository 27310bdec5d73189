//! What a filesystem costs, for who sees only the mount: two attributes that every inode answers and none lists.
//!
//! They are asked for with getxattr(2) and outside all namespaces, so that programs which copy attributes meet neither.

use std::fmt::Write;

use ermfs_core::{FileInfo, Form, Statistics};

/// The attribute whose value is the filesystem's statistics, as JSON.
pub const STATISTICS_XATTR: &str = "ermfs.stats";
/// The attribute whose value is in what form a regular file's content lies in memory, as JSON.
pub const FILE_XATTR: &str = "ermfs.file";

/// Statistics as a JSON object, with the names of `struct ermfs_stats`; amounts are bytes.
pub fn statistics_json(statistics: &Statistics) -> String {
    let Statistics {
        files,
        directories,
        open_descriptions,
        logical_bytes,
        raw_bytes,
        packed_bytes,
        cached_bytes,
        exported_bytes,
        metadata_bytes,
        bytes_in_use,
        peak_bytes,
        max_bytes,
        blocks_packed,
        blocks_inflated,
        blocks_stored,
        soft_limit_hits,
        hard_limit_hits,
        errors,
    } = *statistics;
    object(&[
        ("files", files),
        ("directories", directories),
        ("open_descriptions", open_descriptions),
        ("logical_bytes", logical_bytes),
        ("raw_bytes", raw_bytes),
        ("packed_bytes", packed_bytes),
        ("cached_bytes", cached_bytes),
        ("exported_bytes", exported_bytes),
        ("metadata_bytes", metadata_bytes),
        ("bytes_in_use", bytes_in_use),
        ("peak_bytes", peak_bytes),
        ("max_bytes", max_bytes),
        ("blocks_packed", blocks_packed),
        ("blocks_inflated", blocks_inflated),
        ("blocks_stored", blocks_stored),
        ("soft_limit_hits", soft_limit_hits),
        ("hard_limit_hits", hard_limit_hits),
        ("errors", errors),
    ])
}

/// The same of one file.
pub(crate) fn file_json(info: &FileInfo) -> String {
    let form = match info.form {
        Form::Empty => "empty",
        Form::Raw => "raw",
        Form::Packed => "packed",
        Form::Mixed => "mixed",
    };
    let numbers = object(&[
        ("size", info.size),
        ("stored_bytes", info.stored_bytes),
        ("blocks", info.blocks),
        ("blocks_packed", info.blocks_packed),
        ("blocks_raw", info.blocks_raw),
        ("blocks_hole", info.blocks_hole),
    ]);
    numbers.replacen('{', &format!("{{\"form\":\"{form}\","), 1)
}

fn object(members: &[(&str, u64)]) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in members.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}\"{name}\":{value}");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let statistics = Statistics { files: 3, max_bytes: u64::MAX, ..Statistics::default() };
        let text = statistics_json(&statistics);
        assert!(text.starts_with("{\"files\":3,\"directories\":0,") && text.ends_with("\"errors\":0}"));
        assert!(text.contains("\"max_bytes\":18446744073709551615,"));
        assert_eq!(object(&[("a", 1)]), "{\"a\":1}");
    }
}
