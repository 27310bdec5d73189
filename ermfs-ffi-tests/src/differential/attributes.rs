//! The calls on extended attributes.
//!
//! Promises answers in which the order of names, which is the filesystem's choice, does not show. Owns nothing.

use super::answer::{Reply, bytes_text, reply_text};
use super::field::{Data, Pattern};
use super::op::Op;
use super::world::{Argument, World, call};
use libc::{c_char, c_int, c_void};

/// Room for every list and value that a sequence makes.
const ROOM: usize = 1 << 16;

impl World {
    /// Runs a call on attributes.
    pub(super) fn attribute_call(&mut self, op: &Op) -> String {
        match op {
            Op::Getxattr { size, null, .. } | Op::Fgetxattr { size, null, .. } => {
                self.get_attribute(op, *size as usize, *null)
            }
            Op::Listxattr { size, null, .. } | Op::Flistxattr { size, null, .. } => {
                self.list_attributes(op, *size as usize, *null)
            }
            Op::Setxattr { value, .. } | Op::Fsetxattr { value, .. } => {
                reply_text(&self.set_attribute(op, value))
            }
            Op::Removexattr { path, nofollow, name } => {
                let (path, name) = (Argument::new(path), Argument::new(name));
                reply_text(&if *nofollow {
                    call!(self, lremovexattr(path.pointer(), name.pointer()))
                } else {
                    call!(self, removexattr(path.pointer(), name.pointer()))
                })
            }
            Op::Fremovexattr { fd, name } => {
                reply_text(&call!(self, fremovexattr(self.number(*fd), Argument::new(name).pointer())))
            }
            _ => unreachable!("{op:?} is no call on attributes"),
        }
    }

    fn get_attribute(&self, op: &Op, size: usize, null: bool) -> String {
        let mut value = vec![0u8; size];
        let to = if null { std::ptr::null_mut() } else { value.as_mut_ptr().cast::<c_void>() };
        let reply = match op {
            Op::Getxattr { path, nofollow, name, .. } => {
                let (path, name) = (Argument::new(path), Argument::new(name));
                if *nofollow {
                    call!(self, lgetxattr(path.pointer(), name.pointer(), to, size))
                } else {
                    call!(self, getxattr(path.pointer(), name.pointer(), to, size))
                }
            }
            Op::Fgetxattr { fd, name, .. } => {
                call!(self, fgetxattr(self.number(*fd), Argument::new(name).pointer(), to, size))
            }
            _ => unreachable!("{op:?} is no getxattr"),
        };
        value.truncate(reply.value.max(0) as usize);
        format!("{} {}", reply_text(&reply), bytes_text(&value))
    }

    fn set_attribute(&self, op: &Op, value: &Data) -> Reply {
        let bytes = value.bytes();
        let from =
            if value.pattern == Pattern::Null { std::ptr::null() } else { bytes.as_ptr().cast::<c_void>() };
        let size = value.len as usize;
        match op {
            Op::Setxattr { path, nofollow, name, flags, .. } => {
                let (path, name, flags) = (Argument::new(path), Argument::new(name), *flags as c_int);
                if *nofollow {
                    call!(self, lsetxattr(path.pointer(), name.pointer(), from, size, flags))
                } else {
                    call!(self, setxattr(path.pointer(), name.pointer(), from, size, flags))
                }
            }
            Op::Fsetxattr { fd, name, flags, .. } => {
                let name = Argument::new(name);
                call!(self, fsetxattr(self.number(*fd), name.pointer(), from, size, *flags as c_int))
            }
            _ => unreachable!("{op:?} is no setxattr"),
        }
    }

    fn list_attributes(&self, op: &Op, size: usize, null: bool) -> String {
        let mut list = vec![0u8; size];
        let to = if null { std::ptr::null_mut() } else { list.as_mut_ptr().cast::<c_char>() };
        let reply = match op {
            Op::Listxattr { path, nofollow, .. } => {
                let path = Argument::new(path);
                if *nofollow {
                    call!(self, llistxattr(path.pointer(), to, size))
                } else {
                    call!(self, listxattr(path.pointer(), to, size))
                }
            }
            Op::Flistxattr { fd, .. } => call!(self, flistxattr(self.number(*fd), to, size)),
            _ => unreachable!("{op:?} is no listxattr"),
        };
        list.truncate(reply.value.max(0) as usize);
        let names: Vec<String> = names_of(&list).iter().map(|name| name.escape_ascii().to_string()).collect();
        format!("{} {}", reply_text(&reply), names.join(" "))
    }

    /// All attributes of an open file, for a walk; one that cannot be asked has none.
    pub(super) fn attributes_text(&self, number: c_int) -> String {
        let size = call!(self, flistxattr(number, std::ptr::null_mut(), 0)).value.max(0) as usize;
        if size == 0 {
            return String::new();
        }
        let mut list = vec![0u8; size];
        let reply = call!(self, flistxattr(number, list.as_mut_ptr().cast::<c_char>(), size));
        let mut text = format!(" attributes {}", reply.value);
        let mut value = vec![0u8; ROOM];
        for name in names_of(&list) {
            let to = value.as_mut_ptr().cast::<c_void>();
            let reply = call!(self, fgetxattr(number, name.as_ptr().cast::<c_char>(), to, ROOM));
            let bytes = &value[..reply.value.max(0) as usize];
            text.push_str(&format!(" {} {} {}", name.escape_ascii(), reply_text(&reply), bytes_text(bytes)));
        }
        text
    }
}

/// The names in a list, each with its NUL, sorted.
fn names_of(list: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = list.split_inclusive(|&byte| byte == 0).collect();
    names.sort_unstable();
    names
}
