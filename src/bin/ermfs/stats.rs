//! `ermfs stats`: asks a mounted filesystem through the attributes that it answers and nobody lists.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use ermfs_fuse::{FILE_XATTR, STATISTICS_XATTR};

use crate::explain;

/// Numbers by their names, as the attributes have them.
type Numbers = BTreeMap<String, u64>;

/// # Errors
/// A sentence.
pub(crate) fn show(path: &Path, json: bool) -> Result<(), String> {
    let statistics = asked(path, STATISTICS_XATTR)?.ok_or_else(|| {
        format!("{} is not on an ERMFS mount; `grep ermfs /proc/mounts` lists them", path.display())
    })?;
    // Only regular files have it.
    let file = asked(path, FILE_XATTR)?;
    printed(&match (json, file) {
        (true, None) => format!("{statistics}\n"),
        (true, Some(file)) => format!("{{\"filesystem\":{statistics},\"file\":{file}}}\n"),
        (false, None) => table(&numbers(&statistics)),
        (false, Some(file)) => file_table(&file) + &table(&numbers(&statistics)),
    })
}

/// Writes to standard output. Whoever reads only the beginning, as `head` does, has what it wants.
///
/// # Errors
/// A sentence.
pub(crate) fn printed(text: &str) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}

/// The value of an attribute, or `None` where there is no such thing.
fn asked(path: &Path, name: &str) -> Result<Option<String>, String> {
    let mut value = vec![0u8; 4096];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(n) => {
            value.truncate(n);
            Ok(String::from_utf8(value).ok())
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(rustix::io::Errno::NOTCONN) => Err(explain::left_over(path)),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The members of a flat JSON object that are numbers.
fn numbers(object: &str) -> Numbers {
    let members = object.trim_start_matches('{').trim_end_matches('}').split(',');
    members
        .filter_map(|member| {
            let (name, value) = member.split_once(':')?;
            Some((name.trim_matches('"').to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Statistics for people.
pub(crate) fn table(numbers: &Numbers) -> String {
    let get = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let rest = get("raw_bytes") + get("packed_bytes");
    let ratio = if rest > 0 {
        format!("{:.2} times smaller", get("logical_bytes") as f64 / rest as f64)
    } else {
        "-".into()
    };
    let full =
        if get("max_bytes") > 0 { get("bytes_in_use") as f64 * 100.0 / get("max_bytes") as f64 } else { 0.0 };
    let rows = [
        ("files", get("files").to_string()),
        ("directories", get("directories").to_string()),
        ("open", get("open_descriptions").to_string()),
        ("content", human(get("logical_bytes"))),
        ("  in memory", format!("{} ({ratio})", human(rest))),
        ("    at rest", human(get("packed_bytes"))),
        ("    raw", human(get("raw_bytes"))),
        ("inflated copies", human(get("cached_bytes"))),
        ("sealed exports", human(get("exported_bytes"))),
        ("metadata", human(get("metadata_bytes"))),
        ("in use", format!("{} of {} ({full:.1} %)", human(get("bytes_in_use")), human(get("max_bytes")))),
        ("  at the most", human(get("peak_bytes"))),
        ("blocks packed", get("blocks_packed").to_string()),
        ("  inflated", get("blocks_inflated").to_string()),
        ("  left as they were", get("blocks_stored").to_string()),
        ("limit met, soft", get("soft_limit_hits").to_string()),
        ("  hard", get("hard_limit_hits").to_string()),
        ("errors", get("errors").to_string()),
    ];
    rows.iter().map(|(name, value)| format!("{name:<20} {value}\n")).collect()
}

fn file_table(file: &str) -> String {
    let form = file.split('"').nth(3).unwrap_or("?").to_owned();
    let numbers = numbers(file);
    let get = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let rows = [
        ("size", human(get("size"))),
        ("in memory", format!("{} ({form})", human(get("stored_bytes")))),
        (
            "blocks",
            format!(
                "{} ({} packed, {} raw, {} holes)",
                get("blocks"),
                get("blocks_packed"),
                get("blocks_raw"),
                get("blocks_hole")
            ),
        ),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:<20} {value}\n")).collect();
    text + "\n"
}

/// Statistics as [`table`] takes them, from the filesystem itself.
pub(crate) fn of(statistics: &ermfs_core::Statistics) -> Numbers {
    numbers(&ermfs_fuse::statistics_json(statistics))
}

fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_for_people() {
        for (bytes, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB")]
        {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn tables_say_how_much_smaller() {
        let statistics = ermfs_core::Statistics {
            logical_bytes: 3000,
            packed_bytes: 1000,
            bytes_in_use: 2048,
            max_bytes: 4096,
            ..ermfs_core::Statistics::default()
        };
        let text = table(&of(&statistics));
        assert!(
            text.contains("1000 bytes (3.00 times smaller)") && text.contains("2.0 KiB of 4.0 KiB (50.0 %)"),
            "{text}"
        );
        let file = file_table(
            "{\"form\":\"packed\",\"size\":100000,\"stored_bytes\":50,\"blocks\":2,\"blocks_packed\":2}",
        );
        assert!(file.contains("(packed)") && file.contains("2 (2 packed, 0 raw, 0 holes)"), "{file}");
    }
}
