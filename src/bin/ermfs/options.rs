//! What stands behind `-o`, on the command line and in fstab.

use ermfs_core::{Compress, Config, Mode};
use ermfs_fuse::MountOptions;

/// What `--help` says of them.
pub(crate) const HELP: &str = "\
Options of -o:
  size=N[k|m|g|t|%]    how much memory it may take, everything counted; % of the machine's (50%)
  compress=WHEN        close (the default): by whoever closes a file; background: later; never
  level=N              1 to 12: how hard to compress (1; 6 in the background)
  cache=N[k|m|g|t|%]   how much of size may hold inflated blocks (an eighth)
  mode=WAY             how threads are kept apart: locked (the default), or lockless, where readers wait for nobody
  mode=OCTAL           the root directory's permissions (1777)
  uid=N, gid=N         whose the root directory is (yours)
  umask=OCTAL          the same as what 0777 lacks
  allow_other          others than who mounts may use it, as permissions have it
  threads=N            how many requests are worked on at once
  fsname=NAME          what df and /proc/mounts show as the source
  auto_unmount         unmounted when the process ends, however it ends (needs fusermount3, allow_other)
  ro, noexec, nosuid, nodev, noatime, and rw, exec, suid, dev, relatime
What only mount(8) heeds (defaults, noauto, user, nofail, _netdev, x-..., comment=...) is accepted and ignored.";

/// All that a mount is made with.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) mount: MountOptions,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The root directory's permission bits.
    pub(crate) root_mode: u32,
}

const KNOWN: &str = "size, compress, level, cache, mode, uid, gid, umask, allow_other, threads, fsname, auto_unmount, ro, rw, \
                     exec, noexec, suid, nosuid, dev, nodev, atime, noatime, relatime";

/// What mount(8) keeps for itself, or has no meaning in memory.
const IGNORED: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "async",
    "sync",
    "dirsync",
    "diratime",
    "nodiratime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "default_permissions",
];

impl Default for Options {
    fn default() -> Options {
        Options {
            config: Config { max_bytes: portion(50, machine_memory()), ..Config::default() },
            mount: MountOptions::default(),
            uid: None,
            gid: None,
            root_mode: 0o1777,
        }
    }
}

impl Options {
    /// # Errors
    /// A sentence about the option that is not understood.
    pub(crate) fn parse(lists: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut cache = None;
        for option in lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
            options.take(option)?;
            cache = option.strip_prefix("cache=").or(cache);
        }
        // Its per cent are of `size`, wherever that stands.
        if let Some(cache) = cache {
            options.config.cache_bytes = size("cache", cache, options.config.max_bytes)?;
        }
        if options.mount.auto_unmount && !options.mount.allow_other {
            return Err("auto_unmount needs allow_other beside it".into());
        }
        Ok(options)
    }

    /// Whether an option is one by itself.
    pub(crate) fn understands(option: &str) -> bool {
        Options::default().take(option).is_ok()
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if let Some(flag) = self.flag(name) {
            let (field, on) = flag;
            return match value {
                None => {
                    *field = on;
                    Ok(())
                }
                Some(_) => Err(format!("the option {name} has no value")),
            };
        }
        if IGNORED.contains(&name) || name.starts_with("x-") || name.starts_with("X-") || name == "comment" {
            return Ok(());
        }
        let needed = || {
            value
                .filter(|value| !value.is_empty())
                .ok_or(format!("the option {name} needs a value: {name}=..."))
        };
        match name {
            "size" => self.config.max_bytes = size(name, needed()?, machine_memory())?,
            // Looked at here, taken when `size` is known.
            "cache" => {
                size(name, needed()?, self.config.max_bytes)?;
            }
            "level" => self.config.level = number(name, needed()?, 10, 1, 12)? as i32,
            "compress" => {
                self.config.compress = match needed()? {
                    "close" => Compress::OnClose,
                    "background" => Compress::Background,
                    "never" => Compress::Never,
                    other => return Err(format!("compress={other}: it is close, background or never")),
                }
            }
            "mode" => {
                self.config.mode = match needed()? {
                    "locked" => Mode::Locked,
                    "lockless" => Mode::Lockless,
                    octal => {
                        self.root_mode = permissions(octal).ok_or_else(|| {
                            format!("mode={octal}: it is locked or lockless, or the root directory's permissions in octal")
                        })?;
                        return Ok(());
                    }
                }
            }
            "uid" => self.uid = Some(number(name, needed()?, 10, 0, u32::MAX - 1)?),
            "gid" => self.gid = Some(number(name, needed()?, 10, 0, u32::MAX - 1)?),
            "umask" => self.root_mode = 0o777 & !number(name, needed()?, 8, 0, 0o777)?,
            "threads" => self.mount.threads = number(name, needed()?, 10, 1, 256)? as usize,
            "fsname" => self.mount.fsname = needed()?.to_owned(),
            _ => return Err(format!("unknown option {name}; there are: {KNOWN}")),
        }
        Ok(())
    }

    /// What an option without a value sets, and to what.
    fn flag(&mut self, name: &str) -> Option<(&mut bool, bool)> {
        let mount = &mut self.mount;
        Some(match name {
            "allow_other" => (&mut mount.allow_other, true),
            "auto_unmount" => (&mut mount.auto_unmount, true),
            "ro" => (&mut mount.read_only, true),
            "rw" => (&mut mount.read_only, false),
            "noexec" => (&mut mount.noexec, true),
            "exec" => (&mut mount.noexec, false),
            "nosuid" => (&mut mount.nosuid, true),
            "suid" => (&mut mount.nosuid, false),
            "nodev" => (&mut mount.nodev, true),
            "dev" => (&mut mount.nodev, false),
            "noatime" => (&mut mount.noatime, true),
            "atime" | "relatime" => (&mut mount.noatime, false),
            _ => return None,
        })
    }
}

/// Permission bits, set-id and sticky ones included.
fn permissions(octal: &str) -> Option<u32> {
    u32::from_str_radix(octal, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn number(name: &str, value: &str, radix: u32, least: u32, most: u32) -> Result<u32, String> {
    match u32::from_str_radix(value, radix) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if radix == 8 => Err(format!("{name}={value}: it is an octal number from {least:o} to {most:o}")),
        _ => Err(format!("{name}={value}: it is a number from {least} to {most}")),
    }
}

/// Bytes, with one of tmpfs's suffixes; `whole` is what a percentage is of.
fn size(name: &str, value: &str, whole: u64) -> Result<u64, String> {
    let wrong =
        || format!("{name}={value}: it is a number of bytes, with k, m, g or t, or of per cent, with %");
    let (digits, suffix) = match value.char_indices().next_back() {
        Some((at, suffix)) if !suffix.is_ascii_digit() => (&value[..at], suffix.to_ascii_lowercase()),
        _ => (value, 'b'),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = match suffix {
        'b' => Some(count),
        'k' => count.checked_mul(1 << 10),
        'm' => count.checked_mul(1 << 20),
        'g' => count.checked_mul(1 << 30),
        't' => count.checked_mul(1 << 40),
        '%' => Some(portion(count, whole)),
        _ => None,
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn portion(per_cent: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(per_cent) / 100).unwrap_or(u64::MAX)
}

/// The machine's memory in bytes.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram * u64::from(info.mem_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&[text.to_owned()])
    }

    #[test]
    fn nothing_is_the_default() {
        let options = parse("").unwrap();
        assert_eq!(options.config, Config { max_bytes: machine_memory() / 2, ..Config::default() });
        assert_eq!((options.mount, options.root_mode), (MountOptions::default(), 0o1777));
    }

    #[test]
    fn every_option_is_heard() {
        let options = parse(
            "size=3g,compress=background,level=9,cache=50%,mode=lockless,uid=7,gid=8,umask=027,allow_other,threads=3,fsname=x,\
             auto_unmount,ro,noexec,nosuid,nodev,noatime,defaults,x-systemd.automount,comment=y,nofail",
        )
        .unwrap();
        let config = Config {
            max_bytes: 3 << 30,
            compress: Compress::Background,
            level: 9,
            cache_bytes: 3 << 29,
            mode: Mode::Lockless,
            ..Config::default()
        };
        let mount = MountOptions {
            fsname: "x".into(),
            allow_other: true,
            auto_unmount: true,
            read_only: true,
            noexec: true,
            nosuid: true,
            nodev: true,
            noatime: true,
            threads: 3,
        };
        assert_eq!(options, Options { config, mount, uid: Some(7), gid: Some(8), root_mode: 0o750 });
        let lists = ["ro,noexec".to_owned(), "rw,exec,compress=never".to_owned()];
        let later = Options::parse(&lists).unwrap();
        assert!(!later.mount.read_only && !later.mount.noexec && later.config.compress == Compress::Never);
    }

    #[test]
    fn the_order_matters_only_between_equals() {
        for text in ["cache=50%,size=1m", "size=1m,cache=50%", "cache=1k,size=1g,cache=50%,size=1m"] {
            let config = parse(text).unwrap().config;
            assert_eq!((config.max_bytes, config.cache_bytes), (1 << 20, 1 << 19), "{text}");
        }
        let options = parse("mode=1770,mode=locked,mode=755").unwrap();
        assert_eq!((options.root_mode, options.config.mode), (0o755, Mode::Locked));
        assert_eq!(parse("umask=077,mode=0").unwrap().root_mode, 0);
        assert_eq!(parse("mode=1777,umask=022").unwrap().root_mode, 0o755);
    }

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in
            [("1", 1), ("5k", 5 << 10), ("6M", 6 << 20), ("7g", 7 << 30), ("8T", 8 << 40), ("25%", 250)]
        {
            assert_eq!(size("size", text, 1000), Ok(bytes), "{text}");
        }
        for text in ["0", "", "k", "1x", "-1", "1.5g", "99999999999t", "0%", "1é", "%"] {
            assert!(size("size", text, 1000).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("sise=1g", "unknown option sise"),
            ("size", "needs a value"),
            ("size=", "needs a value"),
            ("level=13", "from 1 to 12"),
            ("compress=later", "compress=later"),
            ("mode=fast", "locked or lockless"),
            ("mode=1888", "in octal"),
            ("mode=17777", "in octal"),
            ("mode=-1", "in octal"),
            ("cache=0", "cache=0"),
            ("cache=x,cache=1m", "cache=x"),
            ("auto_unmount", "needs allow_other"),
            ("uid=root", "uid=root"),
            ("umask=888", "octal"),
            ("threads=0", "from 1 to 256"),
            ("ro=1", "no value"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
