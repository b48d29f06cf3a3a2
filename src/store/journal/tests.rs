//! The journal: what was written is there, once, whatever happened to the end of the file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::audit::Act;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("grantd.db")
    }

    fn file(&self, which: usize) -> PathBuf {
        beside(&self.database(), SUFFIXES[which])
    }

    fn open(&self) -> Journal {
        Journal::open(&self.database()).unwrap()
    }
}

fn write(journal: &Journal, count: usize) {
    for _ in 0..count {
        journal.append(&mut Entry::new(Act::TokenGranted), NOW).unwrap();
    }
}

/// The numbers of everything that is still to be moved, in the order of moving.
fn drained(journal: &Journal) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(which) = journal.to_move() {
        let mut from = Some(0);
        while let Some(at) = from {
            let part = journal.read(which, at).unwrap();
            numbers.extend(part.records.iter().map(|record| record.seq));
            from = part.next;
        }
        journal.moved(which).unwrap();
    }
    numbers
}

#[test]
fn what_was_written_is_moved_once_and_in_order() {
    let desk = Desk::new();
    let journal = desk.open();
    assert_eq!(journal.to_move(), None);
    write(&journal, 3);
    let which = journal.to_move().unwrap();
    write(&journal, 2);
    assert_eq!(journal.to_move(), Some(which), "the same one, until it is done with");
    assert_eq!(drained(&journal), [1, 2, 3, 4, 5]);
    assert_eq!(drained(&journal), [0; 0]);
    write(&journal, 1);
    assert_eq!(drained(&journal), [6]);
}

#[test]
fn another_run_goes_on_where_the_last_one_was_killed() {
    let desk = Desk::new();
    let journal = desk.open();
    write(&journal, 3);
    assert!(journal.to_move().is_some());
    write(&journal, 2);
    drop(journal);
    let journal = desk.open();
    write(&journal, 1);
    assert_eq!(drained(&journal), [1, 2, 3, 4, 5, 6]);
    drop(journal);
    let journal = desk.open();
    journal.begin_after(6);
    journal.begin_after(2);
    write(&journal, 1);
    assert_eq!(drained(&journal), [7], "the store knows how far it had come");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let desk = Desk::new();
    let journal = desk.open();
    let mut entry = Entry { account: Some("line\nend \u{202e}".into()), ..Entry::new(Act::AccountNamed) };
    journal.append(&mut entry, NOW).unwrap();
    let part = journal.read(journal.to_move().unwrap(), 0).unwrap();
    assert_eq!((part.records[0].seq, part.records[0].at), (1, NOW));
    assert_eq!(serde_json::from_str::<Entry<'static>>(&part.records[0].text).unwrap(), entry);
}

#[test]
fn a_record_that_was_cut_off_or_changed_is_left_out_and_the_others_are_there() {
    for (change, left) in [
        ((|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1)) as fn(&mut Vec<u8>), vec![1, 2]),
        (|bytes| bytes.truncate(bytes.len() - 40), vec![1, 2]),
        (|bytes| bytes.extend([0; 100]), vec![1, 2, 3]),
        (|bytes| bytes.extend(b"nonsense\n"), vec![1, 2, 3]),
        (|bytes| bytes[30] ^= 1, vec![2, 3]),
        (|bytes| bytes.truncate(5), vec![]),
    ] {
        let desk = Desk::new();
        write(&desk.open(), 3);
        let mut bytes = fs::read(desk.file(0)).unwrap();
        change(&mut bytes);
        fs::write(desk.file(0), bytes).unwrap();
        let journal = desk.open();
        let next = left.iter().max().unwrap_or(&0) + 1;
        write(&journal, 1);
        let mut expected = left;
        expected.push(next);
        assert_eq!(drained(&journal), expected);
    }
}

#[test]
fn many_chunks_are_read_whole() {
    let desk = Desk::new();
    let journal = desk.open();
    write(&journal, 5000);
    assert!(fs::metadata(desk.file(0)).unwrap().len() > CHUNK as u64);
    drop(journal);
    assert_eq!(drained(&desk.open()), (1..=5000).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_leaves_nothing_of_a_record_and_the_next_one_fits_again() {
    let desk = Desk::new();
    let journal = desk.open();
    write(&journal, 1);
    let long = Entry { account: Some("x".repeat(RECORD_MAX).into()), ..Entry::new(Act::AccountNamed) };
    assert!(journal.append(&mut long.clone(), NOW).is_err(), "too long");
    // A part of it had reached the file, and could not be taken back.
    let mut file = fs::File::options().append(true).open(desk.file(0)).unwrap();
    file.write_all(b"0123456789abcdef {\"seq\":2").unwrap();
    journal.state().torn = true;
    assert_eq!(journal.to_move(), None, "not while it is torn");
    write(&journal, 1);
    assert_eq!(drained(&journal), [1, 2]);
}

#[test]
fn of_many_who_write_at_once_each_has_a_number_of_its_own() {
    let desk = Desk::new();
    let journal = desk.open();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| write(&journal, 200));
        }
        let mut seen = Vec::new();
        while seen.len() < 1600 {
            seen.extend(drained(&journal));
        }
        assert_eq!(seen, (1..=1600).collect::<Vec<_>>());
    });
}

#[test]
fn nobody_else_can_read_it_and_it_is_no_link() {
    let desk = Desk::new();
    drop(desk.open());
    for which in [0, 1] {
        assert_eq!(fs::metadata(desk.file(which)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    fs::set_permissions(desk.file(0), fs::Permissions::from_mode(0o644)).unwrap();
    drop(desk.open());
    assert_eq!(fs::metadata(desk.file(0)).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_file(desk.file(1)).unwrap();
    std::os::unix::fs::symlink("/dev/null", desk.file(1)).unwrap();
    assert!(Journal::open(&desk.database()).is_err());
}
