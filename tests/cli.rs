//! The command `ermfs`, run as a person or mount(8) runs it. What needs a mount is skipped, aloud, where there can be none.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ERMFS: &str = env!("CARGO_BIN_EXE_ermfs");

fn run(arguments: &[&str]) -> Output {
    Command::new(ERMFS).args(arguments).output().unwrap()
}

/// What a failing run says.
fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A directory that is unmounted and removed at the end, however the test ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ermfs-cli-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Place(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(1) == Some(self.path()))
    }

    /// The words of its line in /proc/mounts.
    fn mount_line(&self) -> String {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        mounts.lines().find(|line| line.split(' ').nth(1) == Some(self.path())).unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() {
            run(&["umount", "--lazy", self.path()]);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether something can be mounted here; says so when not.
fn can_mount() -> bool {
    // SAFETY: asks for a number only.
    let can = Path::new("/dev/fuse").exists() && unsafe { libc::geteuid() } == 0;
    if !can {
        println!("SKIPPED: what mounts needs root and /dev/fuse");
    }
    can
}

fn soon(what: &str, mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !seen() {
        assert!(Instant::now() < end, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, number: i32) {
    // SAFETY: a child of ours that was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, number) }, 0);
}

#[test]
fn help_shows_every_option_and_an_example() {
    let help = text(&["--help"]);
    for word in ["mount", "umount", "stats", "completions", "/etc/fstab"] {
        assert!(help.contains(word), "{word}");
    }
    let help = text(&["mount", "--help"]);
    for word in
        ["size=", "compress=", "level=", "mode=", "uid=", "umask=", "allow_other", "threads=", "USR1", "-f"]
    {
        assert!(help.contains(word), "{word}");
    }
    assert!(text(&["--version"]).starts_with("ermfs "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&["completions", shell]).contains("umount"), "{shell}");
    }
}

#[test]
fn the_manual_pages_know_every_option() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages: Vec<String> = ["man/ermfs.1", "man/mount.ermfs.8"]
        .iter()
        .map(|page| fs::read_to_string(project.join(page)).unwrap())
        .collect();
    let help = text(&["mount", "--help"]);
    let options = help.lines().skip_while(|line| !line.starts_with("Options of -o")).skip(1);
    let mut count = 0;
    for line in options.take_while(|line| line.starts_with("  ")) {
        for option in
            line.trim().split("  ").next().unwrap().split([' ', ',']).filter(|word| !word.is_empty())
        {
            let name = option.split('=').next().unwrap();
            if name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') && name != "and" {
                assert!(pages[1].contains(name), "mount.ermfs(8) lacks {name}");
                count += 1;
            }
        }
    }
    assert!(count >= 18, "only {count} options were found");
    for word in ["mount", "umount", "stats", "completions", "SIGUSR1"] {
        assert!(pages[0].contains(word), "ermfs(1) lacks {word}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let place = Place::new("errors");
    let file = place.0.join("file");
    fs::write(&file, "").unwrap();
    let missing = place.0.join("missing");
    for (arguments, part) in [
        (vec!["mount", missing.to_str().unwrap()], "mkdir -p"),
        (vec!["mount", file.to_str().unwrap()], "is not a directory"),
        (vec!["mount", "-o", "sise=1g", place.path()], "unknown option sise"),
        (vec!["mount", "-o", "level=99", place.path()], "from 1 to 12"),
        (vec!["stats", place.path()], "is not on an ERMFS mount"),
        (vec!["stats", missing.to_str().unwrap()], "No such file"),
        (vec!["umount", missing.to_str().unwrap()], "does not exist"),
        (vec!["umount", place.path()], "nothing is mounted"),
    ] {
        let message = complaint(&arguments);
        assert!(message.starts_with("ermfs: ") && message.contains(part), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(run(&["mount"]).status.code(), Some(2));
    fs::remove_file(file).unwrap();
}

#[test]
fn a_daemon_serves_until_it_is_unmounted() {
    if !can_mount() {
        return;
    }
    let place = Place::new("daemon");
    let options =
        "size=64m,uid=7,gid=8,umask=027,nosuid,nodev,noatime,fsname=scratch,threads=3,compress=close,level=6";
    text(&["mount", "-o", options, place.path()]);
    let root = fs::metadata(&place.0).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode()), (7, 8, 0o040750));
    let line = place.mount_line();
    for word in ["scratch ", "nosuid", "nodev", "noatime"] {
        assert!(line.contains(word), "{line}");
    }
    fs::write(place.0.join("f"), vec![b'x'; 1 << 20]).unwrap();
    let room = rustix::fs::statvfs(&place.0).unwrap();
    assert_eq!(room.f_blocks * room.f_frsize, 64 << 20);
    assert!(room.f_bavail < room.f_blocks && room.f_files > room.f_ffree);
    let json = text(&["stats", "--json", place.path()]);
    assert!(json.starts_with("{\"files\":1,") && json.contains("\"max_bytes\":67108864"), "{json}");
    let file = place.0.join("f");
    soon("packing", || text(&["stats", file.to_str().unwrap()]).contains("(packed)"));
    assert!(text(&["stats", "--json", file.to_str().unwrap()]).contains("\"form\":\"packed\""));
    assert!(text(&["stats", place.path()]).contains("times smaller"));
    let held = fs::File::open(&file).unwrap();
    assert!(complaint(&["umount", place.path()]).contains("in use"));
    drop(held);
    text(&["umount", place.path()]);
    assert!(!place.is_mounted() && !file.exists());
}

#[test]
fn mounts_of_other_types_are_left_alone() {
    if !can_mount() {
        return;
    }
    let place = Place::new("other");
    let tool =
        |name: &str, arguments: &[&str]| Command::new(name).args(arguments).status().unwrap().success();
    if !tool("mount", &["-t", "tmpfs", "none", place.path()]) {
        println!("SKIPPED: no tmpfs can be mounted here");
        return;
    }
    let said = [complaint(&["umount", place.path()]), complaint(&["umount", "--lazy", place.path()])];
    // Over it, and off again: what lay below stays.
    text(&["mount", "-o", "size=1m", place.path()]);
    text(&["umount", place.path()]);
    let line = place.mount_line();
    assert!(tool("umount", &[place.path()]));
    assert!(said.iter().all(|said| said.contains("no ERMFS but tmpfs")), "{said:?}");
    assert!(line.contains(" tmpfs "), "{line}");
}

#[test]
fn the_root_directory_is_as_asked_for() {
    if !can_mount() {
        return;
    }
    let place = Place::new("root");
    for (options, mode) in [("size=1m", 0o1777), ("size=1m,mode=2750", 0o2750), ("size=1m,umask=077", 0o700)]
    {
        text(&["mount", "-o", options, place.path()]);
        assert_eq!(fs::metadata(&place.0).unwrap().mode(), 0o040000 | mode, "{options}");
        assert!(place.mount_line().contains(" fuse.ermfs "), "{}", place.mount_line());
        text(&["umount", place.path()]);
    }
}

#[test]
fn a_daemon_with_auto_unmount_keeps_nobody_waiting() {
    if !can_mount() {
        return;
    }
    if Command::new("fusermount3").arg("-V").output().is_err() {
        println!("SKIPPED: auto_unmount needs fusermount3 (Debian: apt-get install fuse3)");
        return;
    }
    let place = Place::new("auto");
    // fusermount3 lives on beside the daemon; whoever waits for the command is to see it end all the same.
    let mut command = Command::new(ERMFS)
        .args(["mount", "-o", "size=1m,auto_unmount,allow_other", place.path()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = command.wait_with_output_within(Duration::from_secs(10));
    assert!(output.status.success(), "{output:?}");
    assert!(place.is_mounted());
    text(&["umount", place.path()]);
    assert!(!place.is_mounted());
}

#[test]
fn nobody_has_to_listen() {
    if !can_mount() {
        return;
    }
    let place = Place::new("deaf");
    let mut child =
        Command::new(ERMFS).args(["mount", "-f", place.path()]).stderr(Stdio::piped()).spawn().unwrap();
    soon("mounting", || place.is_mounted());
    // From now on writing to it is EPIPE.
    drop(child.stderr.take());
    signal(&child, libc::SIGUSR1);
    std::thread::sleep(Duration::from_millis(200));
    fs::write(place.0.join("f"), "content").unwrap();
    assert!(child.try_wait().unwrap().is_none());
    let mut reader =
        Command::new(ERMFS).args(["stats", place.path()]).stdout(Stdio::piped()).spawn().unwrap();
    drop(reader.stdout.take());
    assert!(reader.wait().unwrap().success());
    signal(&child, libc::SIGTERM);
    soon("the end", || child.try_wait().unwrap().is_some());
    assert!(!place.is_mounted());
}

#[test]
fn signals_end_it_and_ask_for_statistics() {
    if !can_mount() {
        return;
    }
    let place = Place::new("signals");
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut child =
            Command::new(ERMFS).args(["mount", "-f", place.path()]).stderr(Stdio::piped()).spawn().unwrap();
        soon("mounting", || place.is_mounted());
        fs::write(place.0.join("f"), "content").unwrap();
        signal(&child, libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(100));
        signal(&child, number);
        let output = child.wait_with_output_within(Duration::from_secs(10));
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("directories"));
        assert!(!place.is_mounted());
    }
    // Somebody else unmounts: the command ends as well.
    let mut child = Command::new(ERMFS).args(["mount", "-f", place.path()]).spawn().unwrap();
    soon("mounting", || place.is_mounted());
    text(&["umount", place.path()]);
    soon("the end", || child.try_wait().unwrap().is_some());
}

/// `wait_with_output`, but not for ever.
trait Within {
    fn wait_with_output_within(&mut self, time: Duration) -> Output;
}

impl Within for Child {
    fn wait_with_output_within(&mut self, time: Duration) -> Output {
        let end = Instant::now() + time;
        while self.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = self.kill();
                panic!("the command does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(&mut self.stderr.take().unwrap(), &mut stderr).unwrap();
        Output { status: self.wait().unwrap(), stdout: Vec::new(), stderr }
    }
}

#[test]
fn a_mount_in_use_goes_out_of_sight_at_a_signal() {
    if !can_mount() {
        return;
    }
    let place = Place::new("lazy");
    let mut child =
        Command::new(ERMFS).args(["mount", "-f", place.path()]).stderr(Stdio::piped()).spawn().unwrap();
    soon("mounting", || place.is_mounted());
    fs::write(place.0.join("f"), "content").unwrap();
    let held = fs::File::open(place.0.join("f")).unwrap();
    signal(&child, libc::SIGTERM);
    soon("detaching", || !place.is_mounted());
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(std::io::read_to_string(&held).unwrap(), "content");
    drop(held);
    let output = child.wait_with_output_within(Duration::from_secs(10));
    assert!(output.status.success() && String::from_utf8(output.stderr).unwrap().contains("is in use"));
}

#[test]
fn mount_8_calls_it_by_another_name() {
    if !can_mount() {
        return;
    }
    let place = Place::new("helper");
    let bin = Place::new("helper-bin");
    let helper = bin.0.join("mount.ermfs");
    symlink(ERMFS, &helper).unwrap();
    let mount = |arguments: &[&str]| Command::new(&helper).args(arguments).output().unwrap();
    let output = mount(&["scratch", place.path(), "-o", "rw,size=1m,ro,nofail,x-thing=1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(place.mount_line().starts_with("scratch "));
    assert!(fs::write(place.0.join("f"), "").unwrap_err().raw_os_error() == Some(libc::EROFS));
    text(&["umount", place.path()]);
    // mount(8) tells a wrong invocation, 1, from a mount that fails, 32.
    assert_eq!(mount(&["scratch", place.path(), "-o", "nonsense"]).status.code(), Some(1));
    assert_eq!(mount(&["scratch"]).status.code(), Some(1));
    assert_eq!(mount(&["scratch", "/dev/null"]).status.code(), Some(32));
    assert!(String::from_utf8(mount(&["--help"]).stdout).unwrap().contains("size="));
    assert!(mount(&["scratch", place.path(), "-f"]).status.success() && !place.is_mounted());
    fs::remove_file(helper).unwrap();
}

#[test]
fn mount_8_may_ask_for_another_namespace() {
    if !can_mount() {
        return;
    }
    let place = Place::new("namespace");
    let bin = Place::new("namespace-bin");
    let helper = bin.0.join("mount.ermfs");
    symlink(ERMFS, &helper).unwrap();
    let Ok(mut other) = Command::new("unshare")
        .args(["--mount", "sh", "-c", "echo; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
    else {
        println!("SKIPPED: needs unshare (Debian: apt-get install util-linux)");
        return fs::remove_file(helper).unwrap();
    };
    let mut line = [0; 1];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut line).unwrap();
    let id = other.id().to_string();
    let namespace = format!("/proc/{id}/ns/mnt");
    let output = Command::new(&helper)
        .args(["scratch", place.path(), "-N", &namespace, "-o", "size=1m"])
        .output()
        .unwrap();
    let there = fs::read_to_string(format!("/proc/{id}/mounts")).unwrap().contains(place.path());
    let here = place.is_mounted();
    let unmounted =
        Command::new("nsenter").args(["-t", &id, "-m", ERMFS, "umount", place.path()]).output().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    fs::remove_file(helper).unwrap();
    assert!(output.status.success() && there && !here, "{output:?}, there: {there}, here: {here}");
    assert!(unmounted.status.success(), "{unmounted:?}");
}

#[test]
fn a_mount_whose_server_was_killed_is_told_from_a_live_one() {
    if !can_mount() {
        return;
    }
    let place = Place::new("killed");
    let mut child = Command::new(ERMFS).args(["mount", "-f", place.path()]).spawn().unwrap();
    soon("mounting", || place.is_mounted());
    fs::write(place.0.join("f"), "content").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let error = fs::metadata(place.0.join("f")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    assert!(complaint(&["mount", place.path()]).contains("take it away first"));
    assert!(complaint(&["stats", place.path()]).contains("take it away first"));
    text(&["umount", place.path()]);
    text(&["mount", place.path()]);
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);
    text(&["umount", place.path()]);
}
