//! `mount.ermfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]`, as mount(8) calls it for an fstab line of type `ermfs`.
//!
//! SOURCE is a name and no more: it is what `df` shows.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::options::{HELP, Options};
use crate::{mount, stats};

const USAGE: &str = "usage: mount.ermfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]; --help lists the options, mount.ermfs(8) tells more";

/// What mount(8) returns for a wrong invocation.
const WRONG: u8 = 1;
/// What it returns for a mount that failed.
const FAILED: u8 = 32;

/// Why it is not mounted.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    /// The exit status, of those that mount(8) defines.
    pub(crate) status: u8,
    /// A sentence.
    pub(crate) message: String,
}

/// # Errors
/// A sentence about what is wrong, and the exit status for it.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let arguments: Vec<OsString> = arguments.collect();
    let wrong = |message| Failure { status: WRONG, message };
    let failed = |message| Failure { status: FAILED, message };
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return stats::printed(&format!("{USAGE}\n\n{HELP}\n")).map_err(failed);
    }
    let request = parse(arguments.into_iter()).map_err(wrong)?;
    let options = request.options().map_err(wrong)?;
    if request.fake {
        return Ok(());
    }
    if let Some(namespace) = &request.namespace {
        enter(namespace).map_err(failed)?;
    }
    mount::mount(&request.dir, &options, false).map_err(failed)
}

/// Moves the process into a mount namespace; relative paths start at its root then.
fn enter(namespace: &Path) -> Result<(), String> {
    let file = File::open(namespace).map_err(|error| format!("{}: {error}", namespace.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|error| format!("cannot enter the namespace {}: {error}", namespace.display()))
}

/// A command line.
#[derive(Debug, PartialEq)]
struct Request {
    source: String,
    dir: PathBuf,
    lists: Vec<String>,
    namespace: Option<PathBuf>,
    fake: bool,
    sloppy: bool,
}

impl Request {
    /// # Errors
    /// A sentence about the option that is not understood.
    fn options(&self) -> Result<Options, String> {
        let mut lists = self.lists.clone();
        if self.sloppy {
            lists = lists.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
            lists.retain(|option| Options::understands(option));
        }
        let mut options = Options::parse(&lists)?;
        if !lists.iter().any(|list| list.split(',').any(|option| option.starts_with("fsname="))) {
            options.mount.fsname.clone_from(&self.source);
        }
        Ok(options)
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let (mut places, mut lists, mut fake, mut sloppy) = (Vec::new(), Vec::new(), false, false);
    let mut namespace = None;
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        match text.strip_prefix('-') {
            None | Some("") => places.push(argument),
            Some("o") => lists.push(arguments.next().ok_or(USAGE)?.to_string_lossy().into_owned()),
            Some(options) if options.starts_with('o') => lists.push(options[1..].to_owned()),
            Some("t") => drop(arguments.next().ok_or(USAGE)?),
            Some("N") => namespace = Some(arguments.next().ok_or(USAGE)?.into()),
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
            Ok(Request { source, dir: dir.into(), lists, namespace, fake, sloppy })
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
        let request = parsed("none /mnt/x -N /proc/7/ns/mnt -n").unwrap();
        assert_eq!((request.namespace, request.dir), (Some("/proc/7/ns/mnt".into()), "/mnt/x".into()));
        for line in
            ["none", "none /mnt /x", "none /mnt -o", "none /mnt -N", "none /mnt -x", "none /mnt --version"]
        {
            assert_eq!(parsed(line), Err(USAGE.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_bad_option_is_refused_unless_sloppy() {
        let run = |line: &str| run(line.split(' ').map(OsString::from));
        let failure = run("none /mnt -f -o nonsense").unwrap_err();
        assert!(failure.message.contains("nonsense") && failure.status == WRONG);
        assert_eq!(run("none /mnt -f -s -o nonsense,size=1g"), Ok(()));
        // Of a pair that belongs together each is understood by itself.
        let options = parsed("none /mnt -s -o auto_unmount,nonsense,allow_other").unwrap().options().unwrap();
        assert!(options.mount.auto_unmount && options.mount.allow_other);
        assert!(run("none /mnt -f -s -o auto_unmount").unwrap_err().message.contains("allow_other"));
    }

    #[test]
    fn the_source_is_the_name() {
        let name = |line: &str| parsed(line).unwrap().options().map(|options| options.mount.fsname);
        assert_eq!(name("scratch /mnt").unwrap(), "scratch");
        assert_eq!(name("scratch /mnt -o ro,fsname=other").unwrap(), "other");
        assert_eq!(name("a,ro /mnt").unwrap(), "a,ro");
    }
}
