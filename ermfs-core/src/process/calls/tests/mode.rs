//! Switching between the modes.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::*;
use crate::fs::{Fs, Mode};
use crate::testing;

const SWITCHES: u32 = 2000;

#[test]
fn files_survive_switches_under_load() {
    testing::alone(module_path!(), "files_survive_switches_under_load", || {
        mkdirat(AT_FDCWD, b"/kept", 0o750).unwrap();
        for number in 0..300u32 {
            save(format!("/kept/{number}").as_bytes(), &number.to_le_bytes().repeat(2000));
        }
        symlinkat(b"kept/7", AT_FDCWD, b"/link").unwrap();
        linkat(AT_FDCWD, b"/kept/8", AT_FDCWD, b"/also", 0).unwrap();
        let (switched, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let users: Vec<_> = (0..3u32)
                .map(|thread| {
                    let switched = &switched;
                    scope.spawn(move || {
                        let (mine, moved) = (format!("/own{thread}"), format!("/moved{thread}"));
                        for round in 0u32.. {
                            save(mine.as_bytes(), &[round as u8; 5000]);
                            renameat2(AT_FDCWD, mine.as_bytes(), AT_FDCWD, moved.as_bytes(), 0).unwrap();
                            assert_eq!(load(moved.as_bytes()), [round as u8; 5000]);
                            let number = (round * 7 + thread) % 300;
                            let kept = load(format!("/kept/{number}").as_bytes());
                            assert_eq!(kept, number.to_le_bytes().repeat(2000));
                            if switched.load(SeqCst) >= SWITCHES {
                                break;
                            }
                            std::thread::yield_now();
                        }
                    })
                })
                .collect();
            while !users.iter().all(|user| user.is_finished()) {
                match set_lockless_mode(!is_lockless()) {
                    Ok(()) => drop(switched.fetch_add(1, SeqCst)),
                    Err(Errno::EBUSY) => drop(refused.fetch_add(1, SeqCst)),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert!(switched.load(SeqCst) >= SWITCHES && refused.load(SeqCst) > 0);
        assert_eq!(load(b"/link"), 7u32.to_le_bytes().repeat(2000));
        assert_eq!(load(b"/also"), 8u32.to_le_bytes().repeat(2000));
        assert_eq!(default_fs().unwrap().statistics().files, 300 + 1 + 3);
    });
}

#[test]
fn an_open_file_without_a_number_keeps_the_mode() {
    testing::alone(module_path!(), "an_open_file_without_a_number_keeps_the_mode", || {
        save(b"/f", b"some bytes");
        let before = is_lockless();
        let fs = default_fs().unwrap();
        let held = OpenFile::of_directory(&fs, &fs.root()).unwrap();
        assert_eq!((set_lockless_mode(!before), is_lockless()), (Err(Errno::EBUSY), before));
        drop(held);
        assert_eq!((set_lockless_mode(!before), is_lockless()), (Ok(()), !before));
        assert_eq!((load(b"/f"), fs.space().mode()), (b"some bytes".to_vec(), Mode::default()));
        // What is made from now on is made so; what another filesystem is made with stays.
        let other = Fs::new(&Config::default()).unwrap();
        assert_eq!(set_lockless_mode(before), Ok(()));
        assert_eq!((other.space().mode() == Mode::default(), fs.space().mode()), (false, Mode::default()));
    });
}

#[test]
fn a_default_filesystem_of_another_mode_than_the_process_is_switched_too() {
    testing::alone(
        module_path!(),
        "a_default_filesystem_of_another_mode_than_the_process_is_switched_too",
        || {
            let (mine, other) = match Mode::default() {
                Mode::Locked => (Mode::Locked, Mode::Lockless),
                Mode::Lockless => (Mode::Lockless, Mode::Locked),
            };
            configure_default(&Config { mode: other, ..Config::default() }).unwrap();
            let fs = default_fs().unwrap();
            mkdirat(AT_FDCWD, b"/dir", 0o755).unwrap();
            chdir(b"/dir").unwrap();
            assert_eq!((fs.space().mode(), Mode::default()), (other, mine));
            assert_eq!(set_lockless_mode(mine == Mode::Lockless), Ok(()));
            assert_eq!((fs.space().mode(), Mode::default()), (mine, mine));
            assert_eq!(getcwd().as_deref(), Ok(b"/dir".as_slice()));
        },
    );
}

fn save(path: &[u8], bytes: &[u8]) {
    let fd = openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, 0o640).unwrap();
    assert_eq!(write(fd, &mut Source::new(bytes)), Ok(bytes.len()));
    close(fd).unwrap();
}

fn load(path: &[u8]) -> Vec<u8> {
    let fd = openat(AT_FDCWD, path, O_RDONLY, 0).unwrap();
    // The one who switches may find it open.
    std::thread::yield_now();
    let mut room = vec![0; 10_000];
    let n = read(fd, &mut Sink::new(&mut room)).unwrap();
    close(fd).unwrap();
    room.truncate(n);
    room
}
