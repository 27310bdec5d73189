//! An allocator that gives each small object cache lines of its own, and does not use them twice.
//!
//! Promises: two objects of up to a page never have a line in common, however short they live. Owns nothing; what is not
//! used again is lost.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::LINE;

/// What is larger is used again: in the engine only buffers are.
const LARGEST: usize = 4096;

/// What is asked of the system for `layout`.
fn widened(layout: Layout) -> Layout {
    if layout.size() > LARGEST {
        return layout;
    }
    // Sizes up to a page do not overflow.
    layout.align_to(LINE).expect("a power of two").pad_to_align()
}

struct Once;

#[global_allocator]
static ALLOCATOR: Once = Once;

// SAFETY: the system's allocator does the work, on layouts that are no smaller than what was asked for; what is not given
// back to it is merely lost.
unsafe impl GlobalAlloc for Once {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract; `widened` makes no size zero.
        unsafe { System.alloc(widened(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(widened(layout)) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if layout.size() > LARGEST {
            // SAFETY: by contract it came from `alloc` or `alloc_zeroed`, and so with this layout from the system's.
            unsafe { System.dealloc(memory, layout) };
        }
    }
}
