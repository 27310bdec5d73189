//! The command: mounts ERMFS filesystems, shows what they hold, takes them away.
//!
//! Promises: what goes wrong is said in one sentence, with what to do about it, and the exit status is 1 (2 for a command line
//! that is not understood). Called as `mount.ermfs` it is mount(8)'s helper, with the exit status of such. Owns nothing; `ermfs-fuse` mounts.

mod explain;
mod helper;
mod mount;
mod mounts;
mod options;
mod stats;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// A filesystem in memory: POSIX in behaviour, gzip-compressed at rest.
#[derive(Parser)]
#[command(name = "ermfs", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mount a new, empty filesystem on a directory
    ///
    /// It lives in the memory of a process of its own, which goes on in the background once the directory can be used. What
    /// is in it is gone when it is unmounted. Signals: INT, TERM and HUP unmount; USR1 prints the statistics, to standard
    /// error in the foreground and to the system log otherwise.
    #[command(after_help = options::HELP)]
    Mount {
        /// Options, as in fstab; may be given several times
        #[arg(short = 'o', value_name = "OPTION[,OPTION...]")]
        options: Vec<String>,
        /// Stay in the foreground
        #[arg(short = 'f', long)]
        foreground: bool,
        /// Where; it must be there
        dir: PathBuf,
    },
    /// Unmount a filesystem: what is in it is gone
    Umount {
        /// Also while something is open on it: out of sight now, gone with the last who uses it
        #[arg(short, long)]
        lazy: bool,
        /// Where it is mounted
        dir: PathBuf,
    },
    /// Show what a mounted filesystem, or one file of it, holds and costs
    Stats {
        /// As JSON, with the names of the C interface; amounts are bytes
        #[arg(long)]
        json: bool,
        /// The directory it is mounted on, or anything in it
        path: PathBuf,
    },
    /// Print completions for a shell
    #[command(after_help = "bash: ermfs completions bash > ~/.local/share/bash-completion/completions/ermfs")]
    Completions {
        /// For which
        shell: Shell,
    },
}

const EXAMPLES: &str = "\
Examples:
  ermfs mount /mnt/scratch                          half of the machine's memory at the most
  ermfs mount -o size=2g,compress=background DIR    2 GiB, compressed while nobody waits
  df -h DIR; ermfs stats DIR                        how full it is; what it costs
  ermfs umount DIR

In /etc/fstab (with mount.ermfs in /sbin):
  scratch  /mnt/scratch  ermfs  size=2g,allow_other  0  0";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new("mount.ermfs")) {
        return match helper::run(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(helper::Failure { status, message }) => {
                say(&format!("mount.ermfs: {message}"));
                ExitCode::from(status)
            }
        };
    }
    let done = match Cli::parse().command {
        Command::Mount { options, foreground, dir } => {
            options::Options::parse(&options).and_then(|options| mount::mount(&dir, &options, foreground))
        }
        Command::Umount { lazy, dir } => mount::umount(&dir, lazy),
        Command::Stats { json, path } => stats::show(&path, json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ermfs", &mut script);
            stats::printed(&String::from_utf8_lossy(&script))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&format!("ermfs: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// A line on standard error, if anybody listens: `eprintln!` panics if not.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
