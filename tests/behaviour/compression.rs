//! The policies: what is compressed when, and that nobody can tell from the content.

use std::io::Write;
use std::os::unix::fs::FileExt;

use ermfs::{Compress, Form, Fs, OpenOptions};

use crate::common::{BLOCK, for_each_policy, mixed, noise, text, wait_until};

fn with(policy: Compress) -> Fs {
    Fs::builder().compress(policy).build().unwrap()
}

#[test]
fn closing_compresses_and_the_content_stays() {
    let fs = with(Compress::OnClose);
    let content = text(1, 20 * BLOCK);
    let mut file = fs.create("/file").unwrap();
    file.write_all(&content).unwrap();
    assert_eq!((file.info().unwrap().form, file.stored_bytes().unwrap()), (Form::Raw, content.len() as u64));
    drop(file);
    let file = fs.open("/file").unwrap();
    assert_eq!(file.info().unwrap().form, Form::Packed);
    assert!(file.stored_bytes().unwrap() < content.len() as u64 / 20);
    assert!(fs.read("/file").unwrap() == content);
    assert_eq!(fs.statistics().unwrap().blocks_packed, 20);
}

#[test]
fn in_the_background_it_happens_soon() {
    let fs = with(Compress::Background);
    let content = text(2, 20 * BLOCK);
    fs.write("/file", &content).unwrap();
    let file = fs.open("/file").unwrap();
    wait_until("the packer", || file.info().unwrap().form == Form::Packed);
    assert!(file.stored_bytes().unwrap() < content.len() as u64 / 20);
    assert!(fs.read("/file").unwrap() == content);
}

#[test]
fn never_is_never() {
    let fs = with(Compress::Never);
    fs.write("/file", text(3, 20 * BLOCK)).unwrap();
    let info = fs.open("/file").unwrap().info().unwrap();
    assert_eq!((info.form, info.blocks_raw, info.stored_bytes), (Form::Raw, 20, 20 * BLOCK as u64));
    assert_eq!(fs.statistics().unwrap().blocks_packed, 0);
}

#[test]
fn the_last_writer_decides_not_readers_and_not_clones() {
    let fs = with(Compress::OnClose);
    let mut file = fs.create("/file").unwrap();
    file.write_all(&text(4, 4 * BLOCK)).unwrap();
    let (clone, reader) = (file.try_clone().unwrap(), fs.open("/file").unwrap());
    let second = OpenOptions::new().write(true).open(&fs, "/file").unwrap();
    drop(file);
    drop(second);
    assert_eq!(reader.info().unwrap().form, Form::Raw);
    drop(clone);
    assert_eq!(reader.info().unwrap().form, Form::Packed);
}

#[test]
fn what_does_not_shrink_is_left_as_it_is() {
    let fs = with(Compress::OnClose);
    fs.write("/file", noise(5, 4 * BLOCK)).unwrap();
    let info = fs.open("/file").unwrap().info().unwrap();
    assert_eq!(info.blocks_packed, 0);
    assert_eq!(info.stored_bytes, 4 * BLOCK as u64);
    assert_eq!(fs.statistics().unwrap().blocks_stored, 4);
}

#[test]
fn small_files_take_little() {
    let fs = with(Compress::OnClose);
    for number in 0..1000 {
        fs.write(format!("/{number}"), text(number, 500)).unwrap();
    }
    let statistics = fs.statistics().unwrap();
    assert_eq!(statistics.logical_bytes, 500_000);
    assert!(statistics.bytes_in_use < 1_000_000, "{statistics:?}");
}

#[test]
fn only_what_changed_is_compressed_again() {
    let fs = with(Compress::OnClose);
    fs.write("/file", text(6, 50 * BLOCK)).unwrap();
    let before = fs.statistics().unwrap().blocks_packed;
    let file = OpenOptions::new().write(true).open(&fs, "/file").unwrap();
    file.write_all_at(b"change", 10 * BLOCK as u64).unwrap();
    drop(file);
    assert_eq!(fs.statistics().unwrap().blocks_packed, before + 1);
}

#[test]
fn content_survives_many_rounds_of_opening_changing_and_closing() {
    for_each_policy(|fs| {
        let mut model = mixed(7);
        fs.write("/file", &model).unwrap();
        for round in 0..60_u64 {
            let file = OpenOptions::new().read(true).write(true).open(fs, "/file").unwrap();
            let at = (round as usize * 104_729) % model.len();
            let patch = if round % 2 == 0 { text(round, 5000) } else { noise(round, 70_000) };
            file.write_all_at(&patch, at as u64).unwrap();
            if model.len() < at + patch.len() {
                model.resize(at + patch.len(), 0);
            }
            model[at..at + patch.len()].copy_from_slice(&patch);
            if round % 10 == 9 {
                let size = model.len() - 77_777;
                file.set_len(size as u64).unwrap();
                model.truncate(size);
            }
            drop(file);
            assert!(fs.read("/file").unwrap() == model, "round {round}");
        }
    });
}

#[test]
fn every_level_gives_the_content_back() {
    for level in 1..=12 {
        let fs = Fs::builder().level(level).build().unwrap();
        fs.write("/file", mixed(8)).unwrap();
        assert!(fs.read("/file").unwrap() == mixed(8), "level {level}");
        assert!(fs.statistics().unwrap().blocks_packed > 0);
    }
}
