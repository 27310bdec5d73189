//! A second reader of gzip streams (RFC 1952), on another inflater.
//!
//! Promises the content of a stream by the rules that the engine states for its own: members one after the other are
//! one content, zeros may follow the last one, everything else is refused. Never looks at the engine.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// What a stream holds.
pub(crate) struct Content {
    /// All of it, or what comes before the fault.
    pub(crate) bytes: Vec<u8>,
    /// Whether there is no fault.
    pub(crate) whole: bool,
}

/// Reads a whole stream.
pub(crate) fn read(stream: &[u8]) -> Content {
    let mut bytes = Vec::new();
    let whole = members(stream, &mut bytes).is_some();
    Content { bytes, whole }
}

fn members(mut stream: &[u8], content: &mut Vec<u8>) -> Option<()> {
    loop {
        stream = member(stream, content)?;
        match stream.first() {
            None => return Some(()),
            Some(0) => return stream.iter().all(|&byte| byte == 0).then_some(()),
            Some(_) => {}
        }
    }
}

/// Reads one member and answers what follows it.
fn member<'a>(member: &'a [u8], content: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (head, mut rest) = member.split_first_chunk::<10>()?;
    let flags = head[3];
    if head[..3] != [0x1f, 0x8b, 8] || flags & 0xe0 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        let (len, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            rest = &rest[rest.iter().position(|&byte| byte == 0)? + 1..];
        }
    }
    if flags & 2 != 0 {
        let crc = crc32fast::hash(&member[..member.len() - rest.len()]) as u16;
        rest = rest.strip_prefix(&crc.to_le_bytes())?;
    }
    let start = content.len();
    rest = inflate(rest, content)?;
    let made = &content[start..];
    rest = rest.strip_prefix(&crc32fast::hash(made).to_le_bytes())?;
    rest.strip_prefix(&(made.len() as u32).to_le_bytes())
}

/// Appends what a deflate stream holds to `content` and answers what follows the stream.
pub(crate) fn inflate<'a>(mut deflated: &'a [u8], content: &mut Vec<u8>) -> Option<&'a [u8]> {
    let start = content.len();
    let mut made = 0;
    let mut state = Box::<DecompressorOxide>::default();
    loop {
        content.resize(start + made + 64 * 1024, 0);
        // Of this stream only: a match reaches no further back than its start.
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, used, more) = decompress(&mut state, deflated, &mut content[start..], made, flags);
        (deflated, made) = (&deflated[used..], made + more);
        match status {
            TINFLStatus::HasMoreOutput => {}
            done => {
                content.truncate(start + made);
                return (done == TINFLStatus::Done).then_some(deflated);
            }
        }
    }
}
