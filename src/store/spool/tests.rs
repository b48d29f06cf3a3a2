//! What the spool promises, on a real directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::model::id::{ConnectionId, Epoch, Generation, Version};
use crate::store::conformance::fixtures::content;

fn name(slot: &str) -> RecordName {
    RecordName::of(&GrantKey { connection: "cx_1".parse().unwrap(), slot: slot.parse().unwrap() })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files(path: &Path) -> Vec<String> {
    let mut files: Vec<_> =
        fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|file| file != ".ballast");
    files.sort();
    files
}

/// A spool in a directory of its own, gone with the test.
fn spool() -> (tempfile::TempDir, PathBuf, Spool) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("spool");
    let spool = Spool::open(&path).unwrap();
    (home, path, spool)
}

#[test]
fn what_is_put_is_read_replaced_and_removed() {
    let (_home, path, spool) = spool();
    let (one, other) = (name("main"), name("user"));
    spool.put(&one, b"first").unwrap();
    spool.put(&other, b"other").unwrap();
    spool.put(&one, b"second").unwrap();
    let expected = vec![(one.clone(), b"second".to_vec()), (other.clone(), b"other".to_vec())];
    assert_eq!(spool.records().unwrap().readable, expected);
    assert_eq!(Spool::open(&path).unwrap().records().unwrap().readable, expected, "also by the next run");
    spool.remove(&one).unwrap();
    spool.remove(&one).unwrap();
    assert_eq!(spool.records().unwrap().readable, [(other, b"other".to_vec())]);
}

#[test]
fn nobody_else_can_look_into_it() {
    let (_home, path, spool) = spool();
    spool.put(&name("main"), b"x").unwrap();
    assert_eq!((mode(&path), mode(&path.join("cx_1.main"))), (0o700, 0o600));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Spool::open(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
}

#[test]
fn a_write_that_was_cut_off_is_swept_away_and_costs_no_record() {
    let (_home, path, spool) = spool();
    spool.put(&name("main"), b"whole").unwrap();
    fs::write(path.join(".new-abc"), b"ha").unwrap();
    assert_eq!(spool.records().unwrap().readable.len(), 1);
    let spool = Spool::open(&path).unwrap();
    assert_eq!(files(&path), ["cx_1.main"]);
    assert_eq!(spool.records().unwrap().readable, [(name("main"), b"whole".to_vec())]);
}

#[test]
fn a_write_that_fails_leaves_the_old_record_and_nothing_else() {
    let (_home, path, spool) = spool();
    spool.put(&name("main"), b"old").unwrap();
    assert!(spool.put(&name("main"), &vec![0; RECORD_MAX + 1]).is_err());
    // A directory in the place of a record: the file is written, and cannot be renamed.
    fs::create_dir(path.join("cx_1.user")).unwrap();
    assert!(spool.put(&name("user"), b"x").is_err());
    assert_eq!(files(&path), ["cx_1.main", "cx_1.user"]);
    let records = spool.records().unwrap();
    assert_eq!((records.readable, records.unreadable), (vec![(name("main"), b"old".to_vec())], vec![name("user")]));
}

#[test]
fn what_is_set_aside_is_kept_and_never_read_again() {
    let (_home, path, spool) = spool();
    spool.put(&name("main"), b"{").unwrap();
    let (found, bytes) = spool.records().unwrap().readable.remove(0);
    assert!(matches!(Spooled::decode(&bytes), Err(RecordError::Malformed(_))));
    spool.set_aside(&found).unwrap();
    assert_eq!(fs::read(path.join("cx_1.main.bad")).unwrap(), b"{");
    let spool = Spool::open(&path).unwrap();
    let records = spool.records().unwrap();
    assert!(records.readable.is_empty() && records.unreadable.is_empty());
    spool.put(&found, b"[").unwrap();
    spool.set_aside(&found).unwrap();
    assert_eq!((files(&path).len(), fs::read(path.join("cx_1.main.bad")).unwrap()), (2, b"{".to_vec()));
}

#[test]
fn what_cannot_be_read_is_named_and_hides_nothing_else() {
    let (home, path, spool) = spool();
    spool.put(&name("main"), b"good").unwrap();
    fs::write(home.path().join("elsewhere"), b"stolen").unwrap();
    symlink(home.path().join("elsewhere"), path.join("cx_1.linked")).unwrap();
    fs::write(path.join("cx_1.long"), vec![0; RECORD_MAX + 1]).unwrap();
    fs::write(path.join("README"), b"not ours").unwrap();
    let records = spool.records().unwrap();
    assert_eq!(records.readable, [(name("main"), b"good".to_vec())]);
    assert_eq!(records.unreadable, [name("linked"), name("long")]);
}

#[test]
fn a_link_a_file_and_a_place_that_is_not_there_are_refused() {
    let (home, path, _spool) = spool();
    let link = home.path().join("link");
    symlink(&path, &link).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    for place in [&link, &home.path().join("file")] {
        assert!(matches!(Spool::open(place), Err(SpoolError::Refused { .. })), "{place:?}");
    }
    assert!(matches!(Spool::open(&home.path().join("no/where")), Err(SpoolError::Io { .. })));
}

#[test]
fn somebody_elses_directory_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, path, _spool) = spool();
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    assert!(matches!(Spool::open(&path), Err(SpoolError::Refused { reason: "belongs to another user", .. })));
}

#[test]
fn a_name_is_that_of_a_grant_and_safe_in_any_directory() {
    let key = GrantKey { connection: ConnectionId::random(), slot: "bot".parse().unwrap() };
    let name = RecordName::of(&key);
    assert_eq!((name.key(), name.as_str().parse()), (key, Ok(name.clone())));
    for bad in ["", ".", "..", "cx_1", "cx_1.", ".main", "cx_1.main.bad", "cx_1/../x.main", ".new-abc", "cx_1.Main"] {
        assert_eq!(bad.parse::<RecordName>(), Err(RecordNameError), "{bad}");
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    for refresh in [true, false] {
        let mut content = content(None);
        content.refresh = content.refresh.filter(|_| refresh);
        let spooled =
            Spooled { key: name("bot").key(), read: Version { epoch: Epoch(3), generation: Generation(41) }, content };
        let read = Spooled::decode(&spooled.encode()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{spooled:?}"));
    }
}

#[test]
fn a_record_of_another_grantd_is_read_as_far_as_it_can_be() {
    let spooled = Spooled { key: name("bot").key(), read: Version::default(), content: content(None) };
    let mut json: serde_json::Value = serde_json::from_slice(&spooled.encode()).unwrap();
    json["colour"] = "red".into();
    json["content"]["mood"] = "good".into();
    for optional in ["refresh", "expires_at", "refresh_expires_at", "renew_at"] {
        json["content"].as_object_mut().unwrap().remove(optional);
    }
    let read = Spooled::decode(&serde_json::to_vec(&json).unwrap()).unwrap();
    assert!(read.content.refresh.is_none() && read.content.expires_at.is_none());
    json["format"] = 2.into();
    let newer = Spooled::decode(&serde_json::to_vec(&json).unwrap());
    assert!(matches!(newer, Err(RecordError::Newer(2))), "{newer:?}");
    json["format"] = 1.into();
    json["content"]["access"] = "not base64!".into();
    let broken = Spooled::decode(&serde_json::to_vec(&json).unwrap());
    assert!(matches!(broken, Err(RecordError::Malformed(_))), "{broken:?}");
}

#[test]
fn room_is_kept_free_and_used_once() {
    let (_home, path, spool) = spool();
    let ballast = path.join(".ballast");
    assert!(fs::metadata(&ballast).unwrap().len() > 100_000);
    assert!(ballast::drop_from(&spool.directory) && !ballast::drop_from(&spool.directory));
    spool.put(&name("main"), b"x").unwrap();
    assert!(!ballast.exists());
    spool.remove(&name("main")).unwrap();
    assert!(ballast.exists(), "when the record is stored there is room again");
}
