use super::*;

#[test]
fn labels_are_listed_once() {
    for (at, label) in LABELS.iter().enumerate() {
        assert!(is_ours(label) && !is_listed(&LABELS[..at], label), "{label}");
        assert!(!is_listed(ermfs_memory::inject::LABELS, label), "{label}");
    }
}
