//! Memory for what a tree of files is made of: inodes, dentries, names, tables of them.
//!
//! Promises: nodes lie together, in arenas that are advised to be huge pages, where a walk through many files would miss in
//! the TLB at each node that malloc had put somewhere; a node costs what [`malloc_footprint`] says, as from a malloc of 16-byte
//! granularity. The first chunk has small pages, so that a process with a few files pays for those that it touches. What is
//! larger than [`LARGEST`] comes from the process's malloc, and so does all of it in a build for a memory checker or a model,
//! which are to see each node. Owns the chunks and the lock around them. Never moves a node.
//!
//! LeakSanitizer takes for lost what only a node refers to, because it does not look into mappings: it is told of the chunks,
//! where a host program has it.

use crate::arena::ARENA_SIZE;
use crate::heap::Heap;
use crate::reserve::{PageSize, advise_pages};
use crate::sync::atomic::AtomicUsize;
use crate::{AllocError, ProcessMemory, inject};
use allocator_api2::alloc::{AllocError as Refused, Allocator, Global};
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

/// Nodes of more bytes come from malloc: a table of that size has pages of its own.
const LARGEST: usize = 64 << 10;

const FROM_MALLOC: bool = cfg!(any(loom, feature = "check-memory"));

static NODES: Heap = Heap::new(begin_chunk, end_chunk);

/// How many chunks there are.
static CHUNKS: AtomicUsize = AtomicUsize::new(0);

fn begin_chunk(chunk: NonNull<u8>) {
    if CHUNKS.fetch_add(1, Relaxed) == 0 {
        advise_pages(chunk, ARENA_SIZE, PageSize::Small);
    }
    leak_checker::look_into(chunk);
}

fn end_chunk(chunk: NonNull<u8>) {
    leak_checker::look_away_from(chunk);
    // Whoever has the arena next takes it for one like all others.
    advise_pages(chunk, ARENA_SIZE, PageSize::Huge);
    CHUNKS.fetch_sub(1, Relaxed);
}

/// The allocator of nodes, for collections that take one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nodes;

/// A box that is a node.
pub type NodeBox<T> = allocator_api2::boxed::Box<T, Nodes>;

/// A vector that is a node.
pub type NodeVec<T> = allocator_api2::vec::Vec<T, Nodes>;

/// Whether memory of this layout comes from malloc.
#[inline]
const fn is_malloced(layout: Layout) -> bool {
    FROM_MALLOC || layout.size() > LARGEST || layout.align() > 16
}

// SAFETY: memory of the heap stays where it is and valid until it is deallocated; a layout alone decides where it comes
// from, so it goes back there; `Nodes` has no state, so all copies of it are one allocator.
unsafe impl Allocator for Nodes {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Refused> {
        if layout.size() == 0 || is_malloced(layout) {
            return Global.allocate(layout);
        }
        let start = NODES.alloc(layout.size()).map_err(|_| Refused)?;
        Ok(NonNull::slice_from_raw_parts(start, layout.size()))
    }

    unsafe fn grow(&self, start: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Refused> {
        if old.size() > 0 && is_malloced(old) && is_malloced(new) {
            // Without a copy where the kernel can move pages.
            // SAFETY: by contract, and `Global` gave it.
            return unsafe { Global.grow(start, old, new) };
        }
        let moved = self.allocate(new)?;
        // SAFETY: by contract the old memory has `old.size()` bytes, and the new, which is another's, no fewer.
        unsafe {
            moved.cast::<u8>().copy_from_nonoverlapping(start, old.size());
            self.deallocate(start, old);
        }
        Ok(moved)
    }

    #[inline]
    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 || is_malloced(layout) {
            // SAFETY: by contract `allocate` gave it for this layout, so `Global` did.
            return unsafe { Global.deallocate(start, layout) };
        }
        // SAFETY: by contract it came from this heap, and has no owner.
        unsafe { NODES.free(start) };
    }
}

/// `value` as a node.
///
/// # Errors
/// [`AllocError::Memory`], and the value back.
#[inline]
#[cfg_attr(feature = "injector", track_caller)]
pub fn try_node<T>(value: T) -> Result<NodeBox<T>, (AllocError, T)> {
    if inject::fails("node") {
        return Err((AllocError::Memory, value));
    }
    let Ok(memory) = Nodes.allocate(Layout::new::<T>()) else { return Err((AllocError::Memory, value)) };
    let at = memory.cast::<T>();
    // SAFETY: fresh memory of this type's layout, from the allocator that the box gives it back to.
    unsafe {
        at.write(value);
        Ok(NodeBox::from_raw_in(at.as_ptr(), Nodes))
    }
}

/// An empty vector with room for `capacity` elements.
///
/// # Errors
/// [`AllocError::Memory`], also when `capacity` elements are more than an address space holds.
#[cfg_attr(feature = "injector", track_caller)]
pub fn try_node_vec<T>(capacity: usize) -> Result<NodeVec<T>, AllocError> {
    let mut vec = NodeVec::new_in(Nodes);
    if capacity > 0 {
        inject::allocation("vec")?;
    }
    vec.try_reserve_exact(capacity).map_err(|_| AllocError::Memory)?;
    Ok(vec)
}

/// What an allocation of so many bytes takes, header and rounding included, whether it is a node or comes from a malloc of
/// 16-byte granularity and one word of overhead, as glibc's: the amount to charge.
pub const fn malloc_footprint(size: usize) -> u64 {
    let bytes = (size + 8).next_multiple_of(16);
    (if bytes < 32 { 32 } else { bytes }) as u64
}

/// Looks whether the program has LeakSanitizer, which asks the dynamic linker, once. Else the first node would, where its
/// caller may have a fork of another thread waiting for it, while who holds the linker's lock waits for that fork.
pub fn find_leak_checker() {
    leak_checker::find();
}

/// The nodes' part of [`crate::process_memory`].
pub(crate) fn describe(memory: &mut ProcessMemory) {
    memory.nodes_in_use = NODES.used();
}

/// LeakSanitizer, if the host program has it.
mod leak_checker {
    use crate::arena::ARENA_SIZE;
    use core::ffi::{CStr, c_void};
    use core::ptr::NonNull;
    use std::sync::OnceLock;

    type Region = unsafe extern "C" fn(*const c_void, usize);

    pub(super) struct LeakChecker {
        register: Region,
        unregister: Region,
    }

    static FOUND: OnceLock<Option<LeakChecker>> = OnceLock::new();

    pub(super) fn find() -> Option<&'static LeakChecker> {
        let find = || {
            let (register, unregister) = (c"__lsan_register_root_region", c"__lsan_unregister_root_region");
            Some(LeakChecker { register: function(register)?, unregister: function(unregister)? })
        };
        FOUND.get_or_init(find).as_ref()
    }

    fn function(name: &CStr) -> Option<Region> {
        // SAFETY: a NUL-terminated name.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        // SAFETY: sanitizer/lsan_interface.h gives both functions this type; a null pointer becomes `None`.
        unsafe { core::mem::transmute::<*mut c_void, Option<Region>>(address) }
    }

    pub(super) fn look_into(chunk: NonNull<u8>) {
        if let Some(checker) = find() {
            // SAFETY: the chunk is mapped until `look_away_from`.
            unsafe { (checker.register)(chunk.as_ptr().cast(), ARENA_SIZE) };
        }
    }

    pub(super) fn look_away_from(chunk: NonNull<u8>) {
        if let Some(checker) = find() {
            // SAFETY: the chunk was registered when the heap got it.
            unsafe { (checker.unregister)(chunk.as_ptr().cast(), ARENA_SIZE) };
        }
    }
}

#[cfg(all(test, not(feature = "check-memory")))]
mod tests {
    use super::*;

    #[test]
    fn nodes_lie_together_and_large_ones_elsewhere() {
        let nodes: Vec<NodeBox<[u64; 23]>> = (0..1000).map(|i| try_node([i; 23]).unwrap()).collect();
        assert!(nodes.iter().enumerate().all(|(i, node)| node.iter().all(|&word| word == i as u64)));
        let arenas: std::collections::HashSet<usize> =
            nodes.iter().map(|node| core::ptr::from_ref(&**node).addr() >> 21).collect();
        assert!(arenas.len() <= 3, "{} arenas", arenas.len());

        for len in [1, 24, 25, LARGEST - 1, LARGEST, LARGEST + 1, 4 * LARGEST] {
            let mut bytes = try_node_vec::<u8>(len).unwrap();
            bytes.resize(len, 7);
            // Moved by the vector from one place to the other.
            bytes.reserve_exact(LARGEST);
            bytes.shrink_to_fit();
            assert!(bytes.len() == len && bytes.iter().all(|&byte| byte == 7), "{len}");
        }
        assert!(try_node_vec::<u64>(usize::MAX / 8).is_err());
    }

    #[test]
    fn footprints_are_what_the_heap_takes() {
        for size in [1, 24, 25, 40, 41, 184, 4096, LARGEST] {
            assert_eq!(malloc_footprint(size), crate::tlsf::block_size(size) as u64, "{size}");
        }
    }

    #[test]
    fn threads_free_each_others_nodes() {
        let (sender, receiver) = std::sync::mpsc::channel::<NodeVec<u8>>();
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for i in 0..2000u32 {
                        let len = (i.wrapping_mul(2_654_435_761).wrapping_add(thread) >> 16) as usize + 1;
                        let mut bytes = try_node_vec(len).unwrap();
                        bytes.resize(len, i as u8);
                        sender.send(bytes).unwrap();
                    }
                });
            }
            drop(sender);
            for bytes in receiver {
                assert!(bytes.iter().all(|&byte| byte == bytes[0]));
            }
        });
    }
}
