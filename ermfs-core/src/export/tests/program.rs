use core::ffi::{CStr, c_char};
use core::ptr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::errno::Errno;
use crate::export::{ExportFlags, Program, execute, export_memfd, fill_from_fd};
use crate::testing::alone;

/// What a child gave on its standard output, and its exit status, or minus the signal it died of.
fn in_child(run: impl FnOnce() -> i32) -> (Vec<u8>, i32) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    // SAFETY: the library is usable in a fork child; the child replaces itself or leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: descriptors of the child's own; ends at once.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::_exit(run())
        }
    }
    drop(writer);
    let mut output = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut output).unwrap();
    let mut status = 0;
    // SAFETY: `status` is writable, `child` is ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    (output, if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) })
}

/// Runs `content` as a program; the exit status is the errno when that fails.
fn run(content: &Content, arguments: &[&CStr]) -> (Vec<u8>, i32) {
    let mut argv: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    argv.push(ptr::null());
    let envp = [c"GREETING=hello".as_ptr(), ptr::null()];
    in_child(|| {
        let before = open_descriptors();
        let error = match Program::new(content, b"program") {
            // SAFETY: both arrays end with null.
            Ok(program) => unsafe { execute(program, argv.as_ptr(), envp.as_ptr()) },
            Err(error) => error,
        };
        // Beside the sealed export that is kept.
        if open_descriptors() <= before + 1 { error.raw() } else { 255 }
    })
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn program(bytes: &[u8]) -> Content {
    let content = Content::new(&space());
    write(&content, 0, bytes);
    content.pack();
    content
}

#[test]
fn an_elf_program_runs_with_its_arguments_and_environment() {
    alone(module_path!(), "an_elf_program_runs_with_its_arguments_and_environment", || {
        let content = Content::new(&space());
        let shell = std::fs::File::open("/bin/sh").unwrap();
        fill_from_fd(&content, shell.as_fd()).unwrap();
        content.pack();
        // Any descriptor that is left shows in the listing of the directory.
        let script = c"echo $0 $1 $GREETING; for fd in /proc/$$/fd/*; do readlink $fd; done | grep -c memfd:program; exit 9";
        let (output, status) = run(&content, &[c"name", c"-c", script, c"zero", c"one"]);
        assert_eq!((output, status), (b"zero one hello\n0\n".to_vec(), 9));
    });
}

#[test]
fn a_script_sees_a_name_it_can_be_opened_by() {
    alone(module_path!(), "a_script_sees_a_name_it_can_be_opened_by", || {
        let content = program(b"#!/bin/sh -e\necho $0 $1 $GREETING\ncat $0 | head -n 1\n");
        let (output, status) = run(&content, &[c"ignored", c"one"]);
        let output = String::from_utf8(output).unwrap();
        let (name, rest) = output.split_once(' ').unwrap();
        assert!(
            name.strip_prefix("/proc/self/fd/").is_some_and(|number| number.parse::<u32>().is_ok()),
            "{name}"
        );
        assert_eq!((rest, status), ("one hello\n#!/bin/sh -e\n", 0));
    });
}

#[test]
fn what_cannot_run_is_an_error_and_leaves_no_descriptor() {
    alone(module_path!(), "what_cannot_run_is_an_error_and_leaves_no_descriptor", || {
        let huge = std::ffi::CString::new(vec![b'x'; 1 << 20]).unwrap();
        for (bytes, argument, error) in [
            (&b""[..], c"", Errno::ENOEXEC),
            (b"no program", c"", Errno::ENOEXEC),
            (b"#!/no/such/interpreter\n", c"", Errno::ENOENT),
            (b"#!/bin/sh\n", huge.as_c_str(), Errno::E2BIG),
        ] {
            assert_eq!(run(&program(bytes), &[c"name", argument]), (Vec::new(), error.raw()));
        }
        assert_eq!(run(&damaged(&space(), 1), &[c"name"]), (Vec::new(), Errno::EIO.raw()));
    });
}

/// Without /proc there is no second description: every sealed export is the caller's own, and holes of
/// what is imported are found by reading.
#[test]
fn without_proc_sealed_exports_are_not_shared() {
    alone(module_path!(), "without_proc_sealed_exports_are_not_shared", || {
        let content = program(b"the file");
        let sparse = memfd_of(b"start");
        rustix::io::pwrite(&sparse, b"end", 5 * BLOCK as u64).unwrap();
        let (_, status) = in_child(|| {
            // SAFETY: the child has one thread. In a user namespace of its own it may change its root.
            let without_proc = unsafe {
                libc::chroot(c"/sys".as_ptr()) == 0
                    || (libc::unshare(libc::CLONE_NEWUSER) == 0 && libc::chroot(c"/sys".as_ptr()) == 0)
            };
            if !without_proc {
                return 77;
            }
            let export = |flags| export_memfd(&content, b"name", flags).unwrap();
            let sealed: [OwnedFd; 2] = [(); 2].map(|()| export(ExportFlags::SEALED | ExportFlags::NOCLOEXEC));
            let [first, second] = &sealed;
            let alike = sealed.iter().all(|fd| {
                read_to_end(fd) == b"the file"
                    && rustix::io::fcntl_getfd(fd).unwrap().is_empty()
                    && rustix::io::pwrite(fd, b"no", 0) == Err(rustix::io::Errno::PERM)
            });
            let apart = stat(first).st_ino != stat(second).st_ino && exported_bytes(content.space()) == 0;
            let copy = Content::new(&space());
            let imported = fill_from_fd(&copy, sparse.as_fd()) == Ok(())
                && (copy.seek_data(BLOCK as u64), copy.size())
                    == (Ok(5 * BLOCK as u64), 5 * BLOCK as u64 + 3);
            if alike && apart && imported { 0 } else { 1 }
        });
        // 77: the system lets nobody change the root, so there is nothing to see here.
        assert!(status == 0 || status == 77, "{status}");
    });
}

/// Where the machine forbids executable memfds, an export is not executable but there.
#[test]
fn where_memfds_must_not_be_executable_exports_still_are_made() {
    alone(module_path!(), "where_memfds_must_not_be_executable_exports_still_are_made", || {
        let content = program(b"#!/bin/sh\n");
        let (_, status) = in_child(|| {
            // SAFETY: the child has one thread, and its own first child is alone in a process id namespace.
            let grandchild =
                unsafe { if libc::unshare(libc::CLONE_NEWPID) == 0 { libc::fork() } else { -1 } };
            if grandchild > 0 {
                let mut status = 0;
                // SAFETY: `status` is writable, the grandchild is ours.
                unsafe { libc::waitpid(grandchild, &mut status, 0) };
                return libc::WEXITSTATUS(status);
            }
            // The setting is the namespace's, and goes with it.
            if std::process::id() != 1 || std::fs::write("/proc/sys/vm/memfd_noexec", "2").is_err() {
                return 77;
            }
            let export = |flags| export_memfd(&content, b"name", flags).unwrap();
            let [private, made, shared] = [0, 1, 1].map(|flags| export(ExportFlags::from_bits_retain(flags)));
            let alike = [&private, &made, &shared]
                .iter()
                .all(|fd| read_to_end(fd) == b"#!/bin/sh\n" && stat(fd).st_mode & 0o111 == 0);
            let argv = [c"name".as_ptr(), ptr::null()];
            // SAFETY: the array ends with null, and stands for an empty environment, too.
            let refused = unsafe {
                execute(Program::new(&content, b"name").unwrap(), argv.as_ptr(), argv[1..].as_ptr())
            };
            if alike && refused == Errno::EACCES && stat(&made).st_ino == stat(&shared).st_ino {
                0
            } else {
                1
            }
        });
        // 77: the kernel has no such setting, or lets nobody change it.
        assert!(status == 0 || status == 77, "{status}");
    });
}

#[test]
fn what_the_kernel_refuses_is_handed_on() {
    alone(module_path!(), "what_the_kernel_refuses_is_handed_on", || {
        let content = program(&random(1, 3 * BLOCK));
        let limit = |resource, most: u64| {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: `limit` is readable.
            unsafe { libc::setrlimit(resource, &limit) }
        };
        let export = |flags| export_memfd(&content, b"name", flags).map(drop);
        let (_, status) = in_child(|| {
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            limit(libc::RLIMIT_FSIZE, 2 * BLOCK as u64);
            let too_large = [0, 1].map(|flags| export(ExportFlags::from_bits_retain(flags)));
            limit(libc::RLIMIT_NOFILE, 0);
            let too_many = [0, 1].map(|flags| export(ExportFlags::from_bits_retain(flags)));
            let as_expected = too_large == [Err(Errno::EFBIG); 2] && too_many == [Err(Errno::EMFILE); 2];
            if as_expected { 0 } else { 1 }
        });
        assert_eq!(status, 0);
    });
}
