//! Models of one file in lockless mode, run by loom in every order of their threads' accesses: the real content, with its
//! map, blocks and pages. What a reader gets at is checked byte by byte (`trace`).

mod loom {
    use ::loom::sync::Arc;
    use ::loom::thread;
    use std::sync::Arc as StdArc;

    use crate::content::{Content, Sink, Source, trace};
    use crate::fs::Mode;
    use crate::space::{Compress, Policy, Space};
    use crate::sync::model;

    /// What is written at once, and told apart by its first byte.
    const UNIT: usize = 1024;

    fn space() -> StdArc<Space> {
        let policy = Policy { compress: Compress::Never, level: 0, max_file_bytes: 0, cache_bytes: 0 };
        Space::new(16 << 20, 85, policy, Mode::Lockless)
    }

    /// A file of these units.
    fn file(units: &[u8]) -> Arc<Content> {
        let content = Content::new(&space());
        for unit in units {
            append(&content, *unit);
        }
        Arc::new(content)
    }

    fn append(content: &Content, unit: u8) {
        content.append(&mut Source::new(&[unit; UNIT])).unwrap();
    }

    fn write(content: &Content, at: usize, bytes: &[u8]) {
        content.write_at(at as u64, &mut Source::new(bytes)).unwrap();
    }

    /// The file as a read of its first units finds it, each by its byte.
    fn read(content: &Content, units: usize) -> Vec<u8> {
        let mut room = vec![0xee; units * UNIT];
        let n = content.read_at(0, &mut Sink::new(&mut room)).unwrap();
        room[..n]
            .chunks(UNIT)
            .map(|unit| {
                assert!(unit.iter().all(|byte| *byte == unit[0]), "parts of two writes");
                unit[0]
            })
            .collect()
    }

    /// Runs `change` beside a reader, which has to find one of `states`; twice in a row, and no older one the second time.
    /// It asks for all that is there at first, and for more.
    fn beside_a_reader(units: &'static [u8], change: fn(&Content), states: &'static [&'static [u8]]) {
        for asked in [units.len(), units.len() + 4] {
            model(move || {
                let content = file(units);
                let reader = {
                    let content = content.clone();
                    thread::spawn(move || {
                        let look = || read(&content, asked);
                        let (first, second) = (look(), look());
                        let is = |state: &&[u8], found: &[u8]| state[..asked.min(state.len())] == *found;
                        let oldest = states.iter().position(|state| is(state, &first));
                        let newest = states.iter().rposition(|state| is(state, &second));
                        assert!(
                            oldest.is_some() && newest.is_some(),
                            "{first:?}, {second:?}: never in the file"
                        );
                        assert!(oldest <= newest, "{first:?} and then {second:?}");
                    })
                };
                change(&content);
                let last = *states.last().unwrap();
                assert_eq!(read(&content, last.len() + 1), last);
                reader.join().unwrap();
                trace::forget();
            });
        }
    }

    #[test]
    fn loom_append_beside_a_reader() {
        beside_a_reader(
            &[1],
            |content| {
                append(content, 2);
                append(content, 3);
            },
            &[&[1], &[1, 2], &[1, 2, 3]],
        );
    }

    #[test]
    fn loom_append_into_the_next_page_beside_a_reader() {
        beside_a_reader(&[1, 2, 3, 4], |content| append(content, 5), &[&[1, 2, 3, 4], &[1, 2, 3, 4, 5]]);
    }

    #[test]
    fn loom_truncate_and_append_beside_a_reader() {
        beside_a_reader(
            &[1, 2],
            |content| {
                content.truncate(UNIT as u64).unwrap();
                append(content, 3);
            },
            &[&[1, 2], &[1], &[1, 3]],
        );
    }

    #[test]
    fn loom_truncate_to_nothing_and_append_beside_a_reader() {
        beside_a_reader(
            &[1, 2],
            |content| {
                content.truncate(0).unwrap();
                append(content, 3);
            },
            &[&[1, 2], &[], &[3]],
        );
    }

    #[test]
    fn loom_truncate_down_and_up_beside_a_reader() {
        beside_a_reader(
            &[1, 2],
            |content| {
                content.truncate(UNIT as u64).unwrap();
                content.truncate(2 * UNIT as u64).unwrap();
            },
            &[&[1, 2], &[1], &[1, 0]],
        );
    }

    #[test]
    fn loom_overwrite_of_a_page_beside_a_reader() {
        beside_a_reader(
            &[1, 2],
            |content| {
                write(content, 0, &[3; UNIT]);
                write(content, UNIT, &[4; UNIT]);
            },
            &[&[1, 2], &[3, 2], &[3, 4]],
        );
    }

    #[test]
    fn loom_overwrites_of_two_pages_beside_a_reader() {
        beside_a_reader(
            &[1, 1, 1, 1, 2],
            |content| {
                write(content, 0, &[3; UNIT]);
                write(content, 4 * UNIT, &[4; UNIT]);
            },
            &[&[1, 1, 1, 1, 2], &[3, 1, 1, 1, 2], &[3, 1, 1, 1, 4]],
        );
    }

    #[test]
    fn loom_a_write_over_two_pages_beside_a_reader() {
        beside_a_reader(
            &[1, 1, 1, 1, 2],
            |content| write(content, 3 * UNIT, &[5; 2 * UNIT]),
            &[&[1, 1, 1, 1, 2], &[1, 1, 1, 5, 5]],
        );
    }

    #[test]
    fn loom_a_write_across_the_end_beside_a_reader() {
        beside_a_reader(&[1, 2], |content| write(content, UNIT, &[5; 2 * UNIT]), &[&[1, 2], &[1, 5, 5]]);
    }

    #[test]
    fn loom_an_append_and_an_overwrite_beside_a_reader() {
        beside_a_reader(
            &[1],
            |content| {
                append(content, 2);
                write(content, 0, &[3; UNIT]);
            },
            &[&[1], &[1, 2], &[3, 2]],
        );
    }

    #[test]
    fn loom_an_append_to_a_shared_block_beside_a_reader() {
        beside_a_reader(
            &[1],
            |content| {
                let held = content.snapshot().unwrap();
                append(content, 2);
                drop(held);
                append(content, 3);
            },
            &[&[1], &[1, 2], &[1, 2, 3]],
        );
    }

    #[test]
    fn loom_a_hole_is_punched_beside_a_reader() {
        beside_a_reader(
            &[1, 2],
            |content| {
                content.punch_hole(0, UNIT as u64).unwrap();
                write(content, UNIT, &[3; UNIT]);
            },
            &[&[1, 2], &[0, 2], &[0, 3]],
        );
    }

    /// The bytes below the end are a hole: past the mark, and in the file.
    #[test]
    fn loom_a_write_past_the_mark_and_below_the_end_beside_a_reader() {
        beside_a_reader(
            &[1],
            |content| {
                content.truncate(8 * UNIT as u64).unwrap();
                write(content, UNIT, &[2; 4 * UNIT]);
            },
            &[&[1], &[1, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 2, 2, 2, 0, 0, 0]],
        );
    }

    #[test]
    fn loom_two_appenders_and_a_reader() {
        model(|| {
            let content = file(&[1]);
            let appender = {
                let content = content.clone();
                thread::spawn(move || append(&content, 2))
            };
            let reader = {
                let content = content.clone();
                thread::spawn(move || {
                    let found = read(&content, 4);
                    let states: [&[u8]; 5] = [&[1], &[1, 2], &[1, 3], &[1, 2, 3], &[1, 3, 2]];
                    assert!(states.contains(&found.as_slice()), "{found:?}");
                })
            };
            append(&content, 3);
            appender.join().unwrap();
            reader.join().unwrap();
            let found = read(&content, 4);
            assert!(found == [1, 2, 3] || found == [1, 3, 2], "{found:?}");
            trace::forget();
        });
    }

    #[test]
    fn loom_the_last_reference_goes_beside_a_reader() {
        beside_a_reader(&[1, 2], Content::clear, &[&[1, 2], &[]]);
    }
}
