//! `mount.ermfs SOURCE DIR [-sfnvN] [-o OPTIONS]`, as mount(8) calls it for an fstab line of type `ermfs`.
//!
//! SOURCE is a name and no more: it is what `df` shows.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::mount;
use crate::options::Options;

const USAGE: &str = "usage: mount.ermfs SOURCE DIR [-sfnv] [-o OPTIONS]; see mount.ermfs(8)";

/// # Errors
/// A sentence about what is wrong.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let Request { source, dir, lists, fake, sloppy } = parse(arguments)?;
    let mut lists = lists;
    if sloppy {
        lists = lists.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        lists.retain(|option| Options::parse(std::slice::from_ref(option)).is_ok());
    }
    let mut options = Options::parse(&lists)?;
    if !lists.iter().any(|list| list.split(',').any(|option| option.starts_with("fsname="))) {
        options.mount.fsname = source;
    }
    if fake { Ok(()) } else { mount::mount(&dir, &options, false) }
}

/// A command line.
#[derive(Debug, PartialEq)]
struct Request {
    source: String,
    dir: PathBuf,
    lists: Vec<String>,
    fake: bool,
    sloppy: bool,
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let (mut places, mut lists, mut fake, mut sloppy) = (Vec::new(), Vec::new(), false, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        match text.strip_prefix('-') {
            None | Some("") => places.push(argument),
            Some("o") => lists.push(arguments.next().ok_or(USAGE)?.to_string_lossy().into_owned()),
            Some(options) if options.starts_with('o') => lists.push(options[1..].to_owned()),
            Some("t" | "N") => drop(arguments.next().ok_or(USAGE)?),
            Some(letters) if letters.chars().all(|letter| "sfnvrw".contains(letter)) => {
                fake |= letters.contains('f');
                sloppy |= letters.contains('s');
                if letters.contains('r') {
                    lists.push("ro".to_owned());
                }
            }
            Some(_) => return Err(USAGE.to_owned()),
        }
    }
    match <[OsString; 2]>::try_from(places) {
        Ok([source, dir]) => {
            let source = source.to_string_lossy().into_owned();
            Ok(Request { source, dir: dir.into(), lists, fake, sloppy })
        }
        Err(_) => Err(USAGE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn as_mount_8_calls_it() {
        let request = parsed("scratch /mnt/x -s -n -o rw,size=1g").unwrap();
        assert_eq!((request.source.as_str(), request.dir), ("scratch", PathBuf::from("/mnt/x")));
        assert_eq!(
            (request.lists, request.fake, request.sloppy),
            (vec!["rw,size=1g".to_owned()], false, true)
        );
        let request = parsed("none /mnt/x -osize=1g -t ermfs -fv -r").unwrap();
        assert_eq!((request.lists, request.fake), (vec!["size=1g".to_owned(), "ro".to_owned()], true));
        for line in ["none", "none /mnt /x", "none /mnt -o", "none /mnt -x", "none /mnt --help"] {
            assert_eq!(parsed(line), Err(USAGE.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_bad_option_is_refused_unless_sloppy() {
        let run = |line: &str| run(line.split(' ').map(OsString::from));
        assert!(run("none /mnt -f -o nonsense").unwrap_err().contains("nonsense"));
        assert_eq!(run("none /mnt -f -s -o nonsense,size=1g"), Ok(()));
    }
}
