//! Files at rest: how much smaller they are, and what they take beyond their members' own bytes.

use crate::codec::{content, filter};
use crate::memory::resident;
use crate::packed::exporter;
use crate::side::{ON_CLOSE, Random, Side, Who};
use crate::stage::{Goal, Line, Measure, Stage};
use crate::table::figure;
use crate::{Options, corpus};

const MIB: usize = 1 << 20;

pub(crate) fn stages() -> Vec<Stage> {
    let stage = |name, prepare, lines| Stage { name, once: true, prepare, lines };
    vec![
        stage("ratio at rest", ratio, ratio_lines),
        stage("beyond members, small files", small_files, small_lines),
        stage("beyond members, large files", large_files, large_lines),
    ]
}

fn ratio_lines(_: &Options) -> Vec<Line> {
    let what = "ratio at rest, level 1, source text, ELF, JSON and database pages together";
    vec![
        Line::new(what, "x", Goal::AtLeast(1.0), "ratio")
            .beside("gzip -1", "ratio")
            .needs("gzip", "gzip")
            .detail(each_kind),
    ]
}

fn each_kind(figures: &[f64]) -> String {
    let each: Vec<String> = figures[1..].iter().map(|ratio| figure(*ratio)).collect();
    format!("{} x ({})", figure(figures[0]), each.join(", "))
}

/// How many times smaller all kinds are together, and each of them.
fn ratio(who: Who, options: &Options) -> Measure {
    let all: Vec<Vec<u8>> = corpus::kinds(options).map(|kind| corpus::load_all(kind, options)).collect();
    let side = Side::enter(who, ON_CLOSE);
    Box::new(move |_| {
        let mut stored = Vec::new();
        for (i, bytes) in all.iter().enumerate() {
            stored.push(if who == Who::Other {
                filter("gzip", &["-1"], bytes).1.len() as f64
            } else {
                let before = side.statistics().content;
                side.write_file(&format!("kind-{i}"), bytes);
                side.statistics().content - before
            });
        }
        let size = |bytes: &Vec<u8>| bytes.len() as f64;
        let mut figures = vec![all.iter().map(size).sum::<f64>() / stored.iter().sum::<f64>()];
        figures.extend(all.iter().zip(&stored).map(|(bytes, stored)| size(bytes) / stored));
        figures
    })
}

fn small_count(options: &Options) -> usize {
    if options.quick { 5_000 } else { 50_000 }
}

/// In MiB.
const LARGE_FILE: usize = 16;

fn large_count(options: &Options) -> usize {
    if options.quick { 8 } else { 64 }
}

fn small_lines(options: &Options) -> Vec<Line> {
    beyond_lines(format!("{} files of 256 bytes to 16 KiB", small_count(options)))
}

fn large_lines(options: &Options) -> Vec<Line> {
    beyond_lines(format!("{} files of {LARGE_FILE} MiB", large_count(options)))
}

fn beyond_lines(files: String) -> Vec<Line> {
    let what = format!(
        "memory beyond the members' own bytes, {files} at rest, as part of the allowed 1.5 % + 400 bytes a file"
    );
    vec![Line::new(what, "%", Goal::Under(100.0), "beyond").detail(|figures| {
        let [_, members, in_use, rss, allowed] = figures else { unreachable!("five figures") };
        let beyond = |bytes| figure((bytes - members) / MIB as f64);
        format!(
            "members {} MiB; beyond them {} MiB by bytes_in_use, {} MiB by RSS; allowed {} MiB",
            figure(members / MIB as f64),
            beyond(*in_use),
            beyond(*rss),
            figure(allowed / MIB as f64)
        )
    })]
}

fn small_files(who: Who, options: &Options) -> Measure {
    let mut random = Random(2);
    let lengths = (0..small_count(options)).map(|_| 256 + random.below(16_384 - 256 + 1)).collect();
    beyond(who, options, lengths)
}

fn large_files(who: Who, options: &Options) -> Measure {
    beyond(who, options, vec![LARGE_FILE * MIB; large_count(options)])
}

/// Writes files of these lengths, and looks at what they take and at what their members are.
fn beyond(who: Who, options: &Options, lengths: Vec<usize>) -> Measure {
    let bytes = corpus::mixed(options);
    let side = Side::enter(who, ON_CLOSE);
    Box::new(move |_| {
        let mut random = Random(3);
        let (before, empty) = (resident(), side.statistics().in_use);
        for (i, len) in lengths.iter().enumerate() {
            let from = random.below(bytes.len() - len);
            side.write_file(&format!("file-{i:011}"), &bytes[from..from + len]);
        }
        let (rss, in_use) = (resident() - before, side.statistics().in_use - empty);
        let export = exporter(c"ermfs_export_gzip");
        let own = |i: usize| own_bytes(&content(&export(&format!("file-{i:011}"), 0))) as f64;
        let members: f64 = (0..lengths.len()).map(own).sum();
        let allowed = members * 0.015 + 400.0 * lengths.len() as f64;
        vec![(in_use - members) / allowed * 100.0, members, in_use, rss, allowed]
    })
}

/// What a file's blocks are made of: its members, and the bytes of those blocks that are stored as they are.
fn own_bytes(mut gzip: &[u8]) -> usize {
    /// Header with the extra field of BGZF, and trailer.
    const HEADER: usize = 18;
    /// The member that ends a BGZF file.
    const END: usize = 28;
    let mut own = 0;
    while gzip.len() > END {
        let member = usize::from(u16::from_le_bytes([gzip[16], gzip[17]])) + 1;
        let raw = u32::from_le_bytes(gzip[member - 4..member].try_into().expect("four bytes"));
        // The type of the first DEFLATE block (RFC 1951, 3.2.3).
        let is_stored = gzip[HEADER] >> 1 & 3 == 0;
        own += if is_stored { raw as usize } else { member };
        gzip = &gzip[member..];
    }
    own
}
